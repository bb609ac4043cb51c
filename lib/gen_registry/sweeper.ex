defmodule GenRegistry.Sweeper do
  @moduledoc false
  # One for each registry: when a starter is killed, it ends what that had begun to start, of which
  # nobody else knows. It is a process of the registry itself: should the registry be killed too, the
  # next one waits for it.

  use GenServer

  alias GenRegistry.{Shutdown, Table}

  defstruct [
    :name,
    :server,
    # The monitor of the server, until it is down.
    :monitor,
    :table,
    :time,
    # The starters that it looks after, to their monitors.
    starters: %{},
    # Monitors of the orphans that have to go, to their starters.
    orphans: %{},
    # How many orphans each dead starter has left.
    left: %{},
    # Starters that have died and are not looked after yet.
    dead: []
  ]

  # For so many milliseconds, others may die with a starter.
  @together 2

  @doc "Starts the sweeper of the calling server."
  @spec start(GenRegistry.name(), Table.t(), Shutdown.time()) :: pid
  def start(name, table, time) do
    # Not linked: it outlives the server.
    {:ok, sweeper} = GenServer.start(__MODULE__, {name, self(), table, time})
    Table.track(table, sweeper, nil)
    sweeper
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
    monitor = Process.monitor(server)
    {:ok, %__MODULE__{name: name, server: server, monitor: monitor, table: table, time: time}}
  end

  @impl true
  def handle_info({__MODULE__, {:watch, starter}}, state) do
    go_on(put_in(state.starters[starter], Process.monitor(starter)))
  end

  def handle_info({__MODULE__, {:let_go, starter}}, state) do
    {monitor, state} = pop_in(state.starters[starter])
    if monitor, do: Process.demonitor(monitor, [:flush])
    go_on(state)
  end

  def handle_info({__MODULE__, :finish}, state), do: go_on(%{state | monitor: nil})

  def handle_info({:DOWN, server, _, _, _}, %{monitor: server} = state) do
    go_on(%{state | monitor: nil})
  end

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

  def handle_info({:time_is_over, pids}, state) do
    Shutdown.kill_late(pids, state.time)
    go_on(state)
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

  # All processes of the VM have to be looked at: once for all starters that have died by now.
  defp sweep(state, starters) do
    state = Enum.reduce(starters, state, &put_in(&2.left[&1], 0))

    children = Shutdown.children(starters)

    # Those that are linked end by that, but not of every reason of a starter's end. The table knows of
    # workers that were registered.
    for {pid, starter} <- children, do: Shutdown.signal(pid, starter)

    # From here on, whoever opens the registry's name next knows of the others. An earlier sweeper, which
    # was killed, may have tracked some already.
    orphans =
      for {pid, starter} = child <- children,
          Table.track(state.table, pid, starter) or Table.without_id?(state.name, pid),
          do: child

    state = Enum.reduce(orphans, state, &await/2)
    kill_at_the_end(Shutdown.milliseconds(state.time), for({pid, _starter} <- orphans, do: pid))
    Enum.reduce(starters, state, &report_if_swept/2)
  end

  defp await({pid, starter}, state) do
    state = put_in(state.orphans[Process.monitor(pid)], starter)
    update_in(state.left[starter], &(&1 + 1))
  end

  defp kill_at_the_end(_time, []), do: :ok
  defp kill_at_the_end(:infinity, _pids), do: :ok
  defp kill_at_the_end(time, pids), do: Process.send_after(self(), {:time_is_over, pids}, time)

  defp gone(state, starter) do
    report_if_swept(starter, update_in(state.left[starter], &(&1 - 1)))
  end

  defp report_if_swept(starter, state) do
    case state.left do
      %{^starter => 0} ->
        send(state.server, {:swept, starter})
        %{state | left: Map.delete(state.left, starter)}

      %{} ->
        state
    end
  end

  # Its work is over when nobody is left of whom it would have to know.
  defp go_on(%{monitor: nil, dead: [], starters: starters, orphans: orphans} = state)
       when starters == %{} and orphans == %{} do
    {:stop, :normal, state}
  end

  defp go_on(state), do: {:noreply, state}
end
