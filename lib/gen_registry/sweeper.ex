defmodule GenRegistry.Sweeper do
  @moduledoc false
  # One for each registry. When a starter is killed, it ends what that had begun to start, of which nobody
  # else knows. When the registry itself is killed, it ends all that this has left: starter by starter, so
  # that the next registry of the name has the processors meanwhile, and by the time that its own registry
  # gave workers, however often the name is killed again.

  use GenServer

  alias GenRegistry.{Earlier, Shutdown, Starter, Table}

  defstruct [
    :name,
    :server,
    # The monitor of the server, until it is down.
    :monitor,
    :table,
    :time,
    # Whether the server ends in order: then it ends its workers itself.
    in_order?: false,
    # The starters that it looks after, to their monitors.
    starters: %{},
    # Monitors of the orphans that have to go, to their starters.
    orphans: %{},
    # How many orphans each dead starter has left.
    left: %{},
    # Starters that have died and are not looked after yet.
    dead: [],
    # Once the server was killed: starters that wait to be told to end, in turn; workers to be told; and the
    # monitors of those that have been told.
    waiting: :queue.new(),
    untold: [],
    told: %{},
    # How many turns there was nobody to tell. `nil` while there are no turns.
    idle: nil,
    # When that was, as the first sweeper of the registry saw it. If this is not the first one, those that it
    # tells have been told before.
    killed_at: nil,
    # Whether the time of those that were told is over.
    late?: false
  ]

  # For so many milliseconds, others may die with a starter.
  @together 2

  # A turn takes so many milliseconds. In each, one starter is told to end, or so many workers.
  @turn 1
  @workers 64

  # After so many turns without a starter that waits, the workers of others are told.
  @patience 20

  @doc """
  Starts the sweeper of a server, or, if that is `nil`, of a registry that was killed and whose own sweeper
  is dead; unless that is gone. `time` is how long workers have to end.
  """
  @spec start(GenRegistry.name(), Table.key(), Shutdown.time(), server :: pid | nil) :: pid | nil
  def start(name, table, time, server) do
    # Not linked: it outlives the server.
    case GenServer.start(__MODULE__, {name, server, table, time}) do
      {:ok, sweeper} -> sweeper
      # Nothing of it is left.
      :ignore -> nil
    end
  end

  @doc """
  Has it look after a starter. When that has died, the server is told `{:swept, starter}` once all is
  gone that it had begun. What it died of does not matter: a start can have it exit with any reason.
  """
  @spec watch(pid, starter :: pid) :: :ok
  def watch(sweeper, starter), do: tell(sweeper, {:watch, starter})

  @doc "Has it no longer look after a starter that waits: the server is about to have that exit."
  @spec let_go(pid, starter :: pid) :: :ok
  def let_go(sweeper, starter), do: tell(sweeper, {:let_go, starter})

  @doc "Has it end when the starters have."
  @spec finish(pid) :: :ok
  def finish(sweeper), do: tell(sweeper, :finish)

  @doc "Tells it that a starter whose server was killed waits to be told when to exit."
  @spec orphaned(pid, starter :: pid) :: :ok
  def orphaned(sweeper, starter), do: tell(sweeper, {:orphaned, starter})

  @doc "Whether a process is a sweeper."
  @spec sweeper?(pid) :: boolean
  def sweeper?(pid), do: Shutdown.module_of(pid) == __MODULE__

  defp tell(sweeper, what) do
    send(sweeper, {__MODULE__, what})
    :ok
  end

  @impl true
  def init({name, server, table, time}) do
    # A registry that ends sends `:shutdown` to all that have a parent.
    Process.flag(:trap_exit, true)
    state = %__MODULE__{name: name, server: server, table: table, time: time}

    cond do
      not Table.set_sweeper(table) -> :ignore
      server -> {:ok, %{state | monitor: Process.monitor(server)}}
      true -> {:ok, look_after(state), {:continue, :server_down}}
    end
  end

  # What the last sweeper looked after.
  defp look_after(%{table: table} = state) do
    starters = for {pid, nil} <- Table.processes(table), pid != self(), do: pid
    Enum.reduce(Enum.uniq(starters ++ Table.starting(table)), state, &look_after(&2, &1))
  end

  defp look_after(state, starter) do
    if is_map_key(state.starters, starter),
      do: state,
      else: put_in(state.starters[starter], Process.monitor(starter))
  end

  @impl true
  def handle_continue(:server_down, state), do: server_down(state)

  @impl true
  def handle_info({__MODULE__, {:watch, starter}}, state), do: go_on(look_after(state, starter))

  def handle_info({__MODULE__, {:let_go, starter}}, state), do: go_on(leave(state, starter))

  def handle_info({__MODULE__, :finish}, state), do: go_on(%{state | in_order?: true})

  # It may come before the news of the server's end.
  def handle_info({__MODULE__, {:orphaned, starter}}, state) do
    state = look_after(state, starter)
    go_on(%{state | waiting: :queue.in(starter, state.waiting)})
  end

  def handle_info({:DOWN, server, _, _, _}, %{monitor: server} = state), do: server_down(state)

  def handle_info({:DOWN, monitor, _, starter, _}, state)
      when :erlang.map_get(starter, state.starters) == monitor do
    if state.dead == [], do: Process.send_after(self(), {__MODULE__, :sweep}, @together)
    starters = Map.delete(state.starters, starter)
    {:noreply, %{state | starters: starters, dead: [starter | state.dead]}}
  end

  def handle_info({__MODULE__, :sweep}, state) do
    go_on(sweep(%{state | dead: []}, state.dead))
  end

  def handle_info({:DOWN, monitor, _, _, _}, state) when is_map_key(state.orphans, monitor) do
    {starter, orphans} = Map.pop!(state.orphans, monitor)
    go_on(gone(%{state | orphans: orphans}, starter))
  end

  def handle_info({:DOWN, monitor, _, _, _}, state) when is_map_key(state.told, monitor) do
    go_on(%{state | told: Map.delete(state.told, monitor)})
  end

  def handle_info({__MODULE__, :turn}, state), do: state |> turn() |> go_on()

  def handle_info({__MODULE__, {:late, pids}}, state) do
    Shutdown.kill_late(pids, state.time)
    go_on(state)
  end

  # A start may take for ever: what it has begun goes with its starter.
  def handle_info({__MODULE__, :late}, state) do
    waiting = MapSet.new(:queue.to_list(state.waiting))

    for {starter, _monitor} <- state.starters,
        starter not in waiting,
        do: Process.exit(starter, :kill)

    go_on(%{state | late?: true})
  end

  def handle_info(_message, state), do: go_on(state)

  # What looks like a call may be from nobody that could be replied to.
  @impl true
  def handle_call(_message, {pid, _tag}, state) when is_pid(pid) do
    {:reply, {:error, :unknown_call}, state}
  end

  def handle_call(_message, _from, state), do: go_on(state)

  @impl true
  def handle_cast(_message, state), do: go_on(state)

  defp leave(state, starter) do
    {monitor, state} = pop_in(state.starters[starter])
    if monitor, do: Process.demonitor(monitor, [:flush])
    state
  end

  ## What dead starters had begun

  # All processes of the VM have to be looked at: once for all starters that have died by now.
  defp sweep(state, starters) do
    state = Enum.reduce(starters, state, &put_in(&2.left[&1], 0))

    children = Shutdown.children(starters)

    # Those that are linked end by that, but not of every reason of a starter's end. The table knows of
    # workers that were registered.
    for {pid, starter} <- children, do: Shutdown.signal(pid, starter)

    # An earlier sweeper, which was killed, may have tracked some already.
    orphans =
      for {pid, starter} = child <- children,
          Table.refuse(state.table, pid, starter) or Table.track(state.table, pid, starter) or
            not Table.has_id?(state.table, pid),
          do: child

    state = Enum.reduce(orphans, state, &await/2)
    pids = for {pid, _starter} <- children, do: pid
    time = if state.late?, do: 0, else: Shutdown.milliseconds(state.time)
    if pids != [], do: tell_after(time, now(), {:late, pids})
    Enum.reduce(starters, state, &report_if_swept/2)
  end

  defp await({pid, starter}, state) do
    state = put_in(state.orphans[Process.monitor(pid)], starter)
    update_in(state.left[starter], &(&1 + 1))
  end

  # So many milliseconds after that.
  defp tell_after(:infinity, _since, _what), do: :ok

  defp tell_after(time, since, what),
    do: Process.send_after(self(), {__MODULE__, what}, since + time, abs: true)

  # The VM's clock begins far below zero, which the table takes for no time.
  defp now, do: System.monotonic_time(:millisecond)

  defp gone(state, starter) do
    report_if_swept(starter, update_in(state.left[starter], &(&1 - 1)))
  end

  defp report_if_swept(starter, %{table: table} = state) do
    case state.left do
      %{^starter => 0} ->
        Table.give_back(table, starter)
        Table.end_start(table, starter)

        if state.monitor,
          do: send(state.server, {:swept, starter}),
          else: Earlier.start_is_over(state.name, starter)

        %{state | left: Map.delete(state.left, starter)}

      %{} ->
        state
    end
  end

  ## What a killed registry has left

  defp server_down(state) do
    since = Table.killed_at(state.table, now())
    killed_at = if state.server == nil, do: since
    state = %{state | monitor: nil, in_order?: false, idle: 0, killed_at: killed_at}
    after_time(state, :late)
    {:noreply, next_turn(state)}
  end

  defp after_time(state, what) do
    tell_after(Shutdown.milliseconds(state.time), state.killed_at || now(), what)
  end

  defp next_turn(state) do
    Process.send_after(self(), {__MODULE__, :turn}, @turn)
    state
  end

  defp turn(state) do
    case :queue.out(state.waiting) do
      {{:value, starter}, waiting} ->
        # First, so that it is not swept after.
        state = leave(state, starter)
        Starter.exit(starter)
        next_turn(%{state | waiting: waiting, idle: 0})

      {:empty, _waiting} ->
        tell_workers(state)
    end
  end

  defp tell_workers(%{untold: [], idle: idle} = state) when idle < @patience,
    do: next_turn(%{state | idle: idle + 1})

  defp tell_workers(%{untold: []} = state) do
    told = MapSet.new(Map.values(state.told))
    alive = Shutdown.alive(state.table, self())

    case for({pid, parent} = worker <- alive, parent != nil, pid not in told, do: worker) do
      [] -> %{state | idle: nil}
      untold -> tell_workers(%{state | untold: untold})
    end
  end

  defp tell_workers(state) do
    {now, untold} = Enum.split(state.untold, @workers)
    now = for {pid, _parent} = worker <- now, Table.alive?(pid), do: worker

    for {pid, parent} <- now do
      Table.told(state.table, pid)
      Shutdown.signal(pid, parent)
    end

    after_time(state, {:late, for({pid, _parent} <- now, do: pid)})
    told = for {pid, _parent} <- now, into: state.told, do: {Process.monitor(pid), pid}
    next_turn(%{state | untold: untold, told: told})
  end

  ## When its work is over

  # When nobody is left of whom it would have to know.
  defp go_on(%{starters: starters, orphans: orphans, told: told, dead: [], idle: nil} = state)
       when starters == %{} and orphans == %{} and told == %{} do
    cond do
      state.in_order? -> {:stop, :normal, state}
      state.monitor -> {:noreply, state}
      Shutdown.alive(state.table, self()) == [] -> {:stop, :normal, state}
      true -> {:noreply, next_turn(%{state | idle: @patience})}
    end
  end

  defp go_on(%{monitor: nil, idle: nil} = state) do
    if :queue.is_empty(state.waiting),
      do: {:noreply, state},
      else: {:noreply, next_turn(%{state | idle: 0})}
  end

  defp go_on(state), do: {:noreply, state}
end
