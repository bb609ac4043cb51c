defmodule GenRegistry.Server do
  @moduledoc false
  # The process under a registry's name. It says who starts and who is stopped (as
  # `GenRegistry.Schedule` decides), never runs a worker's code and never waits for one. All it
  # holds is what is in flight: the workers are in the table.

  use GenServer

  require Logger

  alias GenRegistry.{
    Children,
    Events,
    Held,
    Schedule,
    Shutdown,
    Starter,
    Starters,
    Sweeper,
    Table
  }

  alias GenRegistry.Telemetry

  # After how many milliseconds it is tried again to start what the VM had no room for.
  @again 100

  defstruct [
    :name,
    :worker_module,
    :max_children,
    :max_starting,
    :worker_shutdown,
    :table,
    :schedule,
    # The two processes beside the starters, and their monitors.
    :events,
    :sweeper,
    monitors: %{},
    # Ids being stopped: `{worker, monitor, timer}`.
    ending: %{},
    # The ids of those monitors.
    downs: %{},
    # Callers who wait for their turn and may be nested, as `{id, from}`.
    unprobed: [],
    # Callers on other nodes who wait, by the monitors of them and the other way round.
    remote: %{},
    watched: %{},
    # Dead starters to the ids that wait for what they left.
    clearing: %{},
    # Starts that found no room, but may: it is not known yet what a killed starter left.
    held: [],
    # With events, starters to `{queue time, when it was}` of what they were last given. Without, `nil`.
    given: nil
  ]

  @doc "Tells the server how a start ended, and what the starter does now."
  @spec started(pid, pid, GenRegistry.Types.id(), {:ok, pid} | {:failed, Held.t(), boolean}, atom) ::
          :ok
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

  @doc "Has the server end a worker whose id another process took, as those are that are stopped."
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

    # What a killed registry of this name left: no id may have two workers.
    for {worker, parent} when parent != nil <- Shutdown.alive(name, self()) do
      Shutdown.signal(worker, parent)
    end

    Shutdown.await_all(name, opts[:worker_shutdown])

    state = %__MODULE__{
      name: name,
      worker_module: worker_module,
      max_children: opts[:max_children],
      max_starting: opts[:max_starting],
      worker_shutdown: opts[:worker_shutdown],
      table: Table.open(name, opts[:max_children]),
      schedule: Schedule.new(opts[:max_starting], &__MODULE__.waiting?/1),
      given: if(Telemetry.present?(), do: %{})
    }

    {:ok, state |> start_events() |> start_sweeper()}
  end

  # Public, because a reference to a private function is one to this version of the code: after an
  # upgrade it would be invalid.
  @doc false
  def waiting?({pid, _tag}) when node(pid) == node(), do: Table.local?(pid) and Table.alive?(pid)
  # A caller on another node waits while that is there, and until its monitor says otherwise.
  def waiting?({pid, _tag}), do: node(pid) in Node.list(:connected)

  @impl true
  def handle_call({kind, id, args}, from, state)
      when kind in [:lookup_or_start, :start] and is_list(args) do
    start(state, kind, id, from, {:plain, args})
  end

  # As `GenRegistry` itself asks: the arguments are held, and the caller waits until the deadline.
  def handle_call({kind, id, args, deadline}, from, state)
      when kind in [:lookup_or_start, :start] and is_tuple(args) do
    if deadline == :infinity or System.monotonic_time(:millisecond) < deadline do
      start(state, kind, id, from, args)
    else
      Held.let_go(args)
      {:noreply, state}
    end
  end

  def handle_call({:stop, id}, {caller, _} = from, state) do
    case state.ending do
      # It cannot end while it waits for its own end.
      %{^id => {^caller, _, _}} -> {:reply, :ok, state}
      %{} -> request(state, id, {:stop, from})
    end
  end

  def handle_call({:register, id, pid, parent}, from, state) when is_pid(pid) do
    with true <- Table.local?(pid),
         {:error, :not_found} <- Table.lookup_alive(state.name, id) do
      request(state, id, {:register, from, pid, parent})
    else
      _ -> {:reply, :no, state}
    end
  end

  def handle_call(:info, _from, state), do: {:reply, info(state), state}

  def handle_call(question, from, state) when question in [:which_children, :count_children] do
    %{name: name, worker_module: module, table: table} = state

    # A list of a million children takes a while to make.
    Shutdown.apart(fn ->
      GenServer.reply(
        from,
        if(question == :which_children,
          do: Children.which(name, module, table),
          else: Children.count(name, module, table)
        )
      )
    end)

    {:noreply, state}
  end

  def handle_call(message, _from, state) do
    Logger.error(
      "GenRegistry #{inspect(state.name)} received an unknown call: #{inspect(message)}"
    )

    {:reply, {:error, :unknown_call}, state}
  end

  @impl true
  def handle_cast(_message, state), do: {:noreply, state}

  @impl true
  def handle_info({:started, starter, id, outcome, doing}, state) do
    case Starters.starting(state.schedule.starters, starter) do
      {:starting, ^id} ->
        # Of a start that failed, what it was promised is free. A worker has used it.
        if bounded?(state), do: Table.give_back(state.table, starter)
        {outcome, alive?} = now(outcome, id, state)
        told = Schedule.started(state.schedule, starter, id, outcome, alive?, doing)
        {:noreply, carry_out(state, told)}

      # A stranger's message that looks like the news of a starter.
      _ ->
        {:noreply, state}
    end
  end

  def handle_info({:rested, starter, doing}, state) when doing in [:idle, :parent] do
    {:noreply, %{state | schedule: Schedule.rested(state.schedule, starter, doing)}}
  end

  def handle_info({:spare, starter}, state) do
    case Schedule.retire(state.schedule, starter) do
      nil ->
        {:noreply, state}

      schedule ->
        Starter.exit(starter)
        {:noreply, %{state | schedule: schedule}}
    end
  end

  def handle_info({:which_events, starter}, state) when is_pid(starter) do
    if state.events, do: Starter.events(starter, state.events)
    {:noreply, state}
  end

  def handle_info({:DOWN, monitor, :process, _, _}, state)
      when is_map_key(state.downs, monitor) do
    {id, downs} = Map.pop!(state.downs, monitor)
    {{_pid, _monitor, timer}, ending} = Map.pop!(state.ending, id)
    if timer, do: Process.cancel_timer(timer, async: true, info: false)
    state = %{state | downs: downs, ending: ending}
    {:noreply, carry_out(state, Schedule.stopped(state.schedule, id, :ok))}
  end

  # A caller on another node.
  def handle_info({:DOWN, monitor, :process, caller, _}, state)
      when is_map_key(state.remote, monitor) do
    {{id, from}, remote} = Map.pop!(state.remote, monitor)
    state = %{state | remote: remote, watched: Map.delete(state.watched, from)}
    {:noreply, carry_out(state, Schedule.gave_up(state.schedule, id, caller))}
  end

  # One of the two beside the starters. Starters ask for the next event process themselves.
  def handle_info({:DOWN, monitor, :process, _, _}, state)
      when is_map_key(state.monitors, monitor) do
    {which, monitors} = Map.pop!(state.monitors, monitor)
    {:noreply, start_again(%{state | monitors: monitors}, which)}
  end

  def handle_info({:start_again, which}, state) when which in [:events, :sweeper] do
    {:noreply,
     if(which in Map.values(state.monitors), do: state, else: start_again(state, which))}
  end

  def handle_info({:time_is_over, id, monitor}, state) do
    with %{^id => {pid, ^monitor, _}} <- state.ending, do: Process.exit(pid, :kill)
    {:noreply, state}
  end

  def handle_info({:refused, worker, starter}, state)
      when is_pid(worker) and node(worker) == node() do
    request_shutdown(state, worker, starter, &{:refused_too_long, worker, &1})
    {:noreply, state}
  end

  # The monitor is there for as long as the worker is.
  def handle_info({:refused_too_long, worker, monitor}, state)
      when is_pid(worker) and is_reference(monitor) do
    if Process.demonitor(monitor, [:info]), do: Process.exit(worker, :kill)
    {:noreply, state}
  end

  # In a process of its own: callers may take their time to say whose children they are.
  def handle_info(:probe, state) do
    %{table: table, schedule: schedule} = state
    server = self()

    # Some have had their turn meanwhile.
    waiting =
      for {id, {caller, _} = from} <- state.unprobed,
          node(caller) == node() and Schedule.in_flight?(schedule, id),
          do: {id, from}

    if waiting != [] do
      Shutdown.apart(fn ->
        for {id, {caller, _} = from} <- Enum.reverse(waiting),
            ancestor = known_ancestor(caller, table),
            do: send(server, {:descends, id, from, ancestor})
      end)
    end

    {:noreply, %{state | unprobed: []}}
  end

  # It may be a starter that is busy, or a worker.
  def handle_info({:descends, id, from, ancestor}, state) do
    if Starters.starting(state.schedule.starters, ancestor),
      do: {:noreply, carry_out(state, Schedule.nested(state.schedule, id, from, ancestor))},
      else: {:noreply, state}
  end

  def handle_info({:gave_up, id, caller}, state) do
    {:noreply, carry_out(state, Schedule.gave_up(state.schedule, id, caller))}
  end

  def handle_info({:swept, starter}, state) when is_map_key(state.clearing, starter) do
    {id, clearing} = Map.pop!(state.clearing, starter)
    if bounded?(state), do: Table.give_back(state.table, starter)
    # It may have registered the worker, and died before it could say so.
    state = act(%{state | clearing: clearing}, {:stop, id})
    {held, state} = get_and_update_in(state.held, &{&1, []})
    {:noreply, Enum.reduce(Enum.reverse(held), state, &act(&2, &1))}
  end

  # A starter, or a stranger: then there is nothing to do.
  def handle_info({:EXIT, pid, reason}, state) do
    held = Enum.reject(state.held, &match?({:start, ^pid, _, _}, &1))
    {given, state} = pop_given(%{state | held: held}, pid)
    state = carry_out(state, Schedule.starter_died(state.schedule, pid, reason))
    with %{^pid => id} <- state.clearing, do: tell_of_killed(state, id, reason, given)
    {:noreply, state}
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
  def terminate(_reason, state) do
    Table.close(state.table)
    starters = state.schedule.starters
    by_parent = Enum.group_by(Shutdown.alive(state.name, self()), &elem(&1, 1), &elem(&1, 0))

    # Those that wait can end their workers as a parent does. They exit after that, which ends
    # what does not trap exits at once.
    for {parent, workers} <- by_parent, parent != nil do
      if Starters.waiting?(starters, parent),
        do: Starter.shut_down(parent, workers),
        else: for(worker <- workers, do: Shutdown.signal(worker, parent))
    end

    for starter <- Starters.pids(starters), do: Starter.exit(starter)
    if state.sweeper, do: Sweeper.finish(state.sweeper)
    # Nobody waits for handlers, and the sweeper ends when all starters have.
    others = [state.sweeper | Starters.handling(starters)]
    Shutdown.await_all(state.name, state.worker_shutdown, others)
  end

  # `:observer` and release upgrades ask supervisors, by this, for the module that started them.
  @impl true
  def format_status(_reason, [_dictionary, state]) do
    [data: [{~c"State", state}], supervisor: [{~c"Callback", GenRegistry}]]
  end

  # The live process that an id has when its start has ended: a failed one may have left a guest.
  defp now(outcome, id, state) do
    if match?({:ok, _pid}, outcome) and Table.alive?(elem(outcome, 1)) do
      {outcome, true}
    else
      case Table.lookup_alive(state.name, id) do
        {:ok, _pid} = guest -> {guest, true}
        {:error, :not_found} -> {outcome, false}
      end
    end
  end

  ## What the schedule decided

  defp start(state, kind, id, from, args) do
    case Table.lookup_alive(state.name, id) do
      {:ok, pid} ->
        Held.let_go(args)
        reply = if kind == :start, do: {:error, {:already_started, pid}}, else: {:ok, pid}
        {:reply, reply, state}

      {:error, :not_found} ->
        request_start(state, id, {kind, from, Held.key(args), {args, received(state)}})
    end
  end

  # Where there is no room, whoever asks is told so at once, rather than when its turn comes. But an
  # id in flight may need none, or its own: as may any, while it is not known what is left of others.
  defp request_start(state, id, request) do
    if bounded?(state) and state.clearing == %{} and
         not Schedule.in_flight?(state.schedule, id) and not Table.room?(state.table, id) do
      {:noreply, act(state, {:reply, request, {:error, :max_children}})}
    else
      request(state, id, request)
    end
  end

  defp bounded?(state), do: state.max_children != :infinity

  defp request(state, id, request) do
    state = watch_remote(state, id, Schedule.from(request))
    {:noreply, carry_out(state, Schedule.request(state.schedule, id, request))}
  end

  defp watch_remote(state, _id, {caller, _}) when node(caller) == node(), do: state

  defp watch_remote(state, id, from) do
    # A monitor of another one would connect to its node, and wait for that.
    if waiting?(from) do
      monitor = Process.monitor(elem(from, 0))

      %{
        state
        | remote: Map.put(state.remote, monitor, {id, from}),
          watched: Map.put(state.watched, from, monitor)
      }
    else
      state
    end
  end

  # It has its answer, or its start begins and goes on whatever becomes of the caller.
  defp unwatch_remote(%{watched: watched} = state, from) when is_map_key(watched, from) do
    {monitor, watched} = Map.pop!(watched, from)
    Process.demonitor(monitor, [:flush])
    %{state | remote: Map.delete(state.remote, monitor), watched: watched}
  end

  defp unwatch_remote(state, _from), do: state

  defp carry_out(state, {schedule, actions}) do
    Enum.reduce(actions, %{state | schedule: schedule}, &act(&2, &1))
  end

  defp act(state, {:reply, request, reply}) do
    GenServer.reply(Schedule.from(request), reply)
    act(state, {:forget, request})
  end

  # Of those whose failure it is too. It may be large: the server does not take it.
  defp act(state, {:share, [], reason}) do
    Held.let_go(reason)
    state
  end

  defp act(state, {:share, requests, reason}) do
    state = Enum.reduce(requests, state, &act(&2, {:forget, &1}))
    froms = Enum.map(requests, &Schedule.from/1)

    Shutdown.apart(fn ->
      failure = {:error, Held.take(reason)}
      for from <- froms, do: GenServer.reply(from, failure)
    end)

    state
  end

  defp act(state, {:forget, request}) do
    with {_kind, _from, _key, {args, _received}} <- request, do: Held.let_go(args)
    unwatch_remote(state, Schedule.from(request))
  end

  defp act(state, {:start, :new, id, request}) do
    case start_starter(state) do
      {:ok, starter} ->
        state = update_in(state.schedule, &Schedule.assigned(&1, id, starter))
        act(state, {:start, starter, id, request})

      {:error, reason} ->
        carry_out(state, Schedule.not_assigned(state.schedule, id, reason))
    end
  end

  defp act(state, {:start, starter, id, request} = start) do
    cond do
      not bounded?(state) or Table.promise(state.table, id, starter) ->
        give(unwatch_remote(state, Schedule.from(request)), starter, id, request)

      state.clearing == %{} ->
        carry_out(state, Schedule.refused(state.schedule, id, starter, :max_children))

      true ->
        update_in(state.held, &[start | &1])
    end
  end

  defp act(state, {:stop, id}) do
    case Table.retire(state.table, id) do
      :not_found ->
        carry_out(state, Schedule.stopped(state.schedule, id, {:error, :not_found}))

      {:guest, pid} ->
        if Table.alive?(pid),
          do: carry_out(state, Schedule.not_supervised(state.schedule, id, pid)),
          else: carry_out(state, Schedule.stopped(state.schedule, id, {:error, :not_found}))

      {pid, parent} ->
        end_worker(state, id, pid, parent)
    end
  end

  # As its own parent: it is none of our children.
  defp act(state, {:register, id, {:register, _from, pid, _parent} = request}) do
    registered? = Table.register(state.table, id, pid, pid) == :ok
    carry_out(state, Schedule.registered(state.schedule, id, request, registered?))
  end

  defp act(state, {:await_sweep, starter, id}) do
    put_in(state.clearing[starter], id)
  end

  # With those that are waiting to be handled already.
  defp act(state, {:probe, id, froms}) do
    if state.unprobed == [], do: send(self(), :probe)
    update_in(state.unprobed, &Enum.reduce(froms, &1, fn from, all -> [{id, from} | all] end))
  end

  defp give(%{given: nil} = state, starter, id, {_kind, from, _key, {args, nil}}) do
    Starter.run(starter, id, args, from, nil)
    state
  end

  defp give(state, starter, id, {_kind, from, _key, {args, received}}) do
    now = System.monotonic_time()
    Starter.run(starter, id, args, from, now - received)
    put_in(state.given[starter], {now - received, now})
  end

  # The first of the registry's processes among a process and its ancestors: a starter, or a worker,
  # which is known once its init is over.
  defp known_ancestor(pid, table) do
    if Table.known?(table, pid) do
      pid
    else
      case Process.info(pid, :parent) do
        {:parent, parent} when is_pid(parent) -> known_ancestor(parent, table)
        _ -> nil
      end
    end
  end

  ## The processes beside it

  # Where the VM has no room for more processes, that is no reason to end those there are.
  defp start_starter(%{table: table, events: events} = state) do
    telemetry? = state.given != nil

    with {:ok, starter} <-
           Starter.start(state.name, state.worker_module, table, events, telemetry?) do
      Table.track(table, starter, nil)
      if state.sweeper, do: Sweeper.watch(state.sweeper, starter)
      {:ok, starter}
    end
  rescue
    SystemLimitError -> {:error, :system_limit}
  end

  defp start_events(state) do
    events = Events.start(state.name, state.worker_module)
    monitor(%{state | events: events}, events, :events)
  end

  # It is to know of all starters that live, and of those that have died and left something.
  defp start_sweeper(state) do
    sweeper = Sweeper.start(state.table, state.worker_shutdown)
    starters = Starters.pids(state.schedule.starters) ++ Map.keys(state.clearing)
    for starter <- starters, do: Sweeper.watch(sweeper, starter)
    monitor(%{state | sweeper: sweeper}, sweeper, :sweeper)
  end

  defp monitor(state, pid, which) do
    put_in(state.monitors[Process.monitor(pid)], which)
  end

  defp start_again(state, which) do
    if which == :events, do: start_events(state), else: start_sweeper(state)
  rescue
    SystemLimitError ->
      Process.send_after(self(), {:start_again, which}, @again)
      state
  end

  ## Ends of workers

  defp end_worker(state, id, pid, parent) do
    {monitor, timer} = request_shutdown(state, pid, parent, &{:time_is_over, id, &1})

    # A worker that stops itself must not wait for its own end.
    {{:stopping, stops}, _line} = state.schedule.flights[id]
    for {:stop, {^pid, _} = from} <- stops, do: GenServer.reply(from, :ok)

    %{
      state
      | ending: Map.put(state.ending, id, {pid, monitor, timer}),
        downs: Map.put(state.downs, monitor, id)
    }
  end

  # Returns the worker's monitor, and the timer of the message that is made of that.
  defp request_shutdown(%{worker_shutdown: time} = state, pid, parent, when_time_is_over) do
    monitor = Process.monitor(pid)

    cond do
      time == :brutal_kill -> Process.exit(pid, :kill)
      Starters.waiting?(state.schedule.starters, parent) -> Starter.shut_down(parent, [pid])
      true -> Shutdown.signal(pid, parent)
    end

    timer = if is_integer(time), do: Process.send_after(self(), when_time_is_over.(monitor), time)

    {monitor, timer}
  end

  ## Events

  defp received(%{given: nil}), do: nil
  defp received(_state), do: System.monotonic_time()

  defp pop_given(%{given: nil} = state, _starter), do: {nil, state}
  defp pop_given(state, starter), do: pop_in(state.given[starter])

  # A start whose starter was killed.
  defp tell_of_killed(state, id, reason, given) do
    with {queue_time, begun} <- given do
      now = System.monotonic_time()
      times = %{duration: now - begun, queue_time: queue_time, monotonic_time: now}
      how = %{id: id, kind: :exit, reason: reason, stacktrace: []}
      Events.emit(state.events, [:start, :exception], times, how)
    end

    Events.failed(state.events, id, {:starter_died, reason})
  end

  ## What it is about

  # What is counted here is kept as counts: an answer takes the same time whatever is in flight.
  defp info(state) do
    {in_flight, queued} = Schedule.counts(state.schedule)
    stopping = map_size(state.ending) + map_size(state.clearing)

    %{
      worker_module: state.worker_module,
      count: Table.count(state.name),
      starting: in_flight - queued - stopping,
      stopping: stopping,
      queued: queued,
      starters: Starters.count(state.schedule.starters),
      memory: Table.memory(state.table),
      reclaiming: Table.reclaiming(),
      options: [
        max_children: state.max_children,
        max_starting: state.max_starting,
        worker_shutdown: state.worker_shutdown
      ]
    }
  end
end
