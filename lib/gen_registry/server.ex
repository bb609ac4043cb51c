defmodule GenRegistry.Server do
  @moduledoc false
  # The process under a registry's name. It says who starts and who is stopped (as
  # `GenRegistry.Schedule` decides), never runs a worker's code and never waits for one. All it
  # holds is what is in flight: the workers are in the table. This is what it hears;
  # `GenRegistry.Requests` and `GenRegistry.Outcomes` are what it makes of that, `GenRegistry.Actions` what it does.

  use GenServer

  require Logger

  import GenRegistry.Actions,
    only: [
      act: 2,
      bounded?: 1,
      carry_out: 2,
      gone: 3,
      let_go: 2,
      start_again: 2,
      start_events: 1,
      start_sweeper: 1,
      waiting?: 2,
      watch_sweepers: 1
    ]

  alias GenRegistry.{
    Callers,
    Closing,
    Earlier,
    Endings,
    Events,
    Held,
    Outcomes,
    Overview,
    Requests,
    Schedule,
    Shutdown,
    Starter,
    Starters
  }

  alias GenRegistry.{Sweeper, Table, Telemetry, TermMap, Waiting}

  defstruct [
    :name,
    :worker_module,
    :max_children,
    :max_starting,
    :worker_shutdown,
    :table,
    :schedule,
    # The two processes beside the starters.
    :events,
    :sweeper,
    :endings,
    callers: Callers.new(),
    # Of the two processes, and of earlier registries' sweepers.
    monitors: %{},
    # Dead starters to the ids that wait for what they left.
    clearing: %{},
    # Whether earlier registries may have left something, and the ids that wait for starters of these.
    earlier?: true,
    left: %{},
    # Starts that found no room, but may: it is not known yet what a killed starter left.
    held: [],
    # The callers that wait until an id has a process.
    waiting: Waiting.new(),
    # How many starts have failed, and how many were refused for want of room.
    failed: 0,
    refused: 0,
    # Of ids whose workers are being replaced, the workers whose places the next ones get.
    places: TermMap.new(),
    # With events, what counts them, and starters to `{queue time, when it was, metadata of the span}` of what
    # they were last given. Without, `nil`.
    counts: nil,
    given: nil
  ]

  @typedoc "How a start ended. A failed one has left `remains`, which are being ended."
  @type outcome :: {:ok, pid} | {:failed, Held.t(), shared? :: boolean, remains :: [pid]}

  @doc "Tells the server how a start ended, and what the starter does now."
  @spec started(pid, pid, GenRegistry.Types.id(), outcome, atom) :: :ok
  def started(server, starter, id, outcome, state) do
    send(server, {:started, starter, id, outcome, state})
    :ok
  end

  @doc "Tells the server that a starter has done what follows a start, and waits."
  @spec rested(pid, pid, :idle | :parent) :: :ok
  def rested(server, starter, state) do
    send(server, {:rested, starter, state})
    :ok
  end

  @doc "Tells the server that a starter has waited for a while, without workers."
  @spec spare(pid, pid) :: :ok
  def spare(server, starter) do
    send(server, {:spare, starter})
    :ok
  end

  @doc "Has the server tell a starter of the present event process."
  @spec which_events(pid, pid) :: :ok
  def which_events(server, starter) do
    send(server, {:which_events, starter})
    :ok
  end

  @doc "Has the server end a process that a failed start left, as those are that are stopped."
  @spec refused(pid, worker :: pid, starter :: pid) :: :ok
  def refused(server, worker, starter) do
    send(server, {:refused, worker, starter})
    :ok
  end

  @doc "Tells the server that the calling process does not wait for this id any more."
  @spec gave_up(GenRegistry.server(), GenRegistry.Types.id()) :: :ok
  def gave_up(registry, id) do
    # Not to a local name: a process that stands in for the registry there knows calls only.
    server = if is_atom(registry), do: Table.owner(registry), else: registry
    if server, do: send(server, {:gave_up, id, self()})
    :ok
  end

  @impl true
  def init({name, worker_module, opts}) do
    Process.flag(:trap_exit, true)
    # Ids may be large: what is over must not stay for long where there is much to do.
    Process.flag(:fullsweep_after, 10)

    state = %__MODULE__{
      name: name,
      worker_module: worker_module,
      max_children: opts[:max_children],
      max_starting: opts[:max_starting],
      worker_shutdown: opts[:worker_shutdown],
      table: Table.open(name, opts[:max_children]),
      # By name, because a reference to a private function is one to this version of the code: after an
      # upgrade it would be invalid.
      schedule: Schedule.new(opts[:max_starting], &Callers.waiting?/1),
      endings: Endings.new(opts[:worker_shutdown]),
      counts: if(Telemetry.present?(), do: Events.new_counts())
    }

    state = %{state | given: if(state.counts != nil, do: %{})}
    state = state |> start_sweeper() |> start_events() |> watch_sweepers()
    if state.counts, do: Events.registry_started(state.events)
    {:ok, state}
  end

  # What looks like a call, but is from nobody that could be replied to.
  @impl true
  def handle_call(_request, from, state)
      when not (is_tuple(from) and tuple_size(from) == 2 and is_pid(elem(from, 0))) do
    {:noreply, state}
  end

  def handle_call({kind, id, args}, from, state)
      when kind in [:lookup_or_start, :start, :replace] and is_list(args) do
    {:noreply, Requests.start(state, kind, id, from, {:plain, args})}
  end

  # As `GenRegistry` itself asks: the arguments are held, and the caller waits until the deadline.
  def handle_call({kind, id, args, deadline} = request, from, state)
      when kind in [:lookup_or_start, :start, :replace] do
    cond do
      not Held.held?(args) ->
        unknown_call(request, state)

      # A number is less than an atom.
      System.monotonic_time(:millisecond) < deadline ->
        {:noreply, Requests.start(state, kind, id, from, args)}

      true ->
        Held.let_go(args)
        {:noreply, state}
    end
  end

  def handle_call({:stop, id}, from, state), do: {:noreply, Requests.stop(state, id, from)}

  def handle_call({:await, id}, from, state) do
    case Table.lookup_alive(state.name, id) do
      {:ok, pid} -> {:reply, {:ok, pid}, state}
      {:error, :not_found} -> {:noreply, update_in(state.waiting, &Waiting.add(&1, id, from))}
    end
  end

  def handle_call({:register, id, pid, parent}, from, state) when is_pid(pid),
    do: {:noreply, Requests.register(state, id, from, pid, parent)}

  # From a caller that is in a start or an end.
  def handle_call({:in, {by, _wait} = in_which, request}, from, state)
      when is_pid(by) and
             elem(request, 0) in [:lookup_or_start, :start, :replace, :stop, :register],
      do: handle_call(request, Callers.in_which(from, in_which), state)

  def handle_call(question, from, state)
      when question in [:info, :which_children, :count_children] do
    answer = Overview.answer(question, state)

    # A list of a million children takes a while to make, and a worker may take its time to say what it is.
    Shutdown.apart(fn -> reply_while_it_runs(from, answer) end)
    {:noreply, state}
  end

  def handle_call(message, _from, state), do: unknown_call(message, state)

  @impl true
  def handle_cast(_message, state), do: {:noreply, state}

  @impl true
  def handle_info({:started, starter, id, outcome, doing}, state)
      when doing in [:idle, :handling, :parent],
      do: {:noreply, Outcomes.started(state, starter, id, outcome, doing)}

  def handle_info({:rested, starter, doing}, state) when doing in [:idle, :parent] do
    {:noreply, %{state | schedule: Schedule.rested(state.schedule, starter, doing)}}
  end

  def handle_info({:spare, starter}, state) do
    case Schedule.retire(state.schedule, starter) do
      nil ->
        {:noreply, state}

      schedule ->
        let_go(state, starter)
        {:noreply, %{state | schedule: schedule}}
    end
  end

  def handle_info({:which_events, starter}, state) when is_pid(starter) do
    if state.events, do: Starter.events(starter, state.events)
    {:noreply, state}
  end

  # One of the two beside the starters, or a sweeper of an earlier registry, which has done all it had to
  # if it ends as usual. Starters ask for the next event process themselves.
  def handle_info({:DOWN, monitor, :process, _, reason}, state)
      when is_map_key(state.monitors, monitor) do
    {which, monitors} = Map.pop!(state.monitors, monitor)
    state = %{state | monitors: monitors}
    over? = match?({:sweeper, _earlier}, which) and reason == :normal
    {:noreply, if(over?, do: state, else: start_again(state, which))}
  end

  def handle_info({:DOWN, monitor, :process, pid, reason}, state) do
    # So that its place is free, whoever asks next.
    if bounded?(state) and Table.local?(pid), do: Table.forget_dead(state.table, pid)

    case Endings.down(state.endings, monitor) || Callers.down(state.callers, monitor) do
      {:worker, id, endings} ->
        {:noreply, gone(%{state | endings: endings}, id, :ok)}

      # A guest may have the id.
      {:all, id, endings} ->
        {:noreply, act(%{state | endings: endings}, {:stop, id})}

      {:some, _id, endings} ->
        {:noreply, %{state | endings: endings}}

      {id, %Callers{} = callers} ->
        state = %{state | callers: callers}
        {:noreply, carry_out(state, Schedule.gave_up(state.schedule, id, pid))}

      nil ->
        {:noreply, waiter_down(state, monitor) || if_dead(state, pid, reason)}
    end
  end

  def handle_info({:start_again, which}, state)
      when which in [:events, :sweeper] or (is_tuple(which) and elem(which, 0) == :sweeper) do
    {:noreply,
     if(which in Map.values(state.monitors), do: state, else: start_again(state, which))}
  end

  def handle_info({:time_is_over, id, monitor}, state) do
    Endings.kill(state.endings, id, monitor)
    {:noreply, state}
  end

  def handle_info({:refused, worker, starter}, state)
      when is_pid(worker) and node(worker) == node() do
    if Table.local?(worker) do
      Endings.refuse(state.endings, worker, starter, waiting?(state, starter))
    end

    {:noreply, state}
  end

  def handle_info({:refused_too_long, worker, monitor}, state)
      when is_pid(worker) and is_reference(monitor) do
    Endings.kill_refused(state.endings, worker, monitor)
    {:noreply, state}
  end

  def handle_info({:gave_up, id, caller}, state) do
    state = update_in(state.waiting, &Waiting.leave(&1, id, caller))
    {:noreply, carry_out(state, Schedule.gave_up(state.schedule, id, caller))}
  end

  def handle_info({:swept, starter}, state) when is_map_key(state.clearing, starter) do
    {id, clearing} = Map.pop!(state.clearing, starter)
    # It may have registered the worker, and died before it could say so.
    state = act(%{state | clearing: clearing}, {:stop, id})
    {held, state} = get_and_update_in(state.held, &{&1, []})
    {:noreply, Enum.reduce(Enum.reverse(held), state, &act(&2, &1))}
  end

  def handle_info({:left_gone, starter}, state) when is_map_key(state.left, starter) do
    {ids, left} = Map.pop!(state.left, starter)
    {:noreply, Enum.reduce(ids, %{state | left: left}, &gone(&2, &1, :ok))}
  end

  def handle_info(:reclaiming_stopped, state) do
    Logger.error(
      "GenRegistry cannot free memory any more: membarrier(2), which worked before, fails. " <>
        "Registries go on, and grow until the node is restarted"
    )

    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(reason, state) do
    # Those who wait are answered before any worker is told: it may be one of them.
    Table.seal(state.table)
    Closing.answer_all(state)
    starters = state.schedule.starters
    by_parent = Enum.group_by(Shutdown.alive(state.table, self()), &elem(&1, 1), &elem(&1, 0))

    # Those that wait can end their workers as a parent does. They exit after that, which ends
    # what does not trap exits at once.
    for {parent, workers} <- by_parent, parent != nil do
      if Starters.waiting?(starters, parent),
        do: Starter.shut_down(parent, workers),
        else: for(worker <- workers, do: Shutdown.signal(worker, parent))
    end

    for starter <- Starters.pids(starters) do
      if Starters.waiting?(starters, starter),
        do: let_go(state, starter),
        else: Starter.exit(starter)
    end

    if state.sweeper, do: Sweeper.finish(state.sweeper)
    # Nobody waits for handlers, and the sweeper ends when all starters have.
    others = [state.sweeper | Starters.handling(starters)]
    answer = &Closing.answer(state, &1, &2)

    server = self()

    Shutdown.await(answer, fn ->
      Shutdown.end_all(state.table, server, state.worker_shutdown, others)
      Earlier.await(state.name, state.table, state.worker_shutdown)
    end)

    if in_order?(reason), do: Table.end_in_order(state.table)
    Table.close(state.table)
  end

  defp in_order?(reason) when reason in [:normal, :shutdown], do: true
  defp in_order?(reason), do: match?({:shutdown, _}, reason)

  # `:observer` and release upgrades ask supervisors, by this, for the module that started them.
  @impl true
  def format_status(reason, [_dictionary, state]) do
    # What is in flight has the arguments of starts, which may be anything.
    {in_flight, queued} = Schedule.counts(state.schedule)
    shown = %{registry: state.name, in_flight: in_flight, queued: queued}

    if reason == :terminate,
      do: shown,
      else: [data: [{~c"State", shown}], supervisor: [{~c"Callback", GenRegistry}]]
  end

  defp waiter_down(state, monitor) do
    if waiting = Waiting.down(state.waiting, monitor), do: %{state | waiting: waiting}
  end

  # Not by the word of a message that anybody can send.
  defp if_dead(state, pid, reason) do
    if is_pid(pid) and not Table.alive?(pid), do: Outcomes.died(state, pid, reason), else: state
  end

  defp reply_while_it_runs(from, answer) do
    GenServer.reply(from, answer.())
  rescue
    # The registry has ended, which the caller notices.
    ArgumentError -> :ok
  end

  defp unknown_call(message, state) do
    Logger.error(
      "GenRegistry #{inspect(state.name)} received an unknown call: #{inspect(message)}"
    )

    {:reply, {:error, :unknown_call}, state}
  end
end
