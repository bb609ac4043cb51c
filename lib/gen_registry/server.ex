defmodule GenRegistry.Server do
  @moduledoc false
  # The process under a registry's name. It says who starts and who is stopped (as
  # `GenRegistry.Schedule` decides), never runs a worker's code and never waits for one. All it
  # holds is what is in flight: the workers are in the table.

  use GenServer

  require Logger

  alias GenRegistry.{Report, Schedule, Shutdown, Starter, Sweeper, Table, Telemetry}

  # How many milliseconds a caller waits for its turn before it is asked whether it is a worker in
  # its init, which must not have to.
  @probe_after 5

  defstruct [
    :name,
    :worker_module,
    :max_children,
    :max_starting,
    :worker_shutdown,
    :table,
    :schedule,
    # Ids being stopped: `{worker, monitor, timer}`.
    ending: %{},
    # The ids of those monitors.
    downs: %{},
    # Callers who wait for their turn, as `{id, from}`.
    unprobed: [],
    # Starters to their sweepers, and dead ones to the ids that wait for theirs.
    sweepers: %{},
    clearing: %{},
    # Starts that found no room, but may: it is not known yet what a killed starter left.
    held: [],
    # With events, starters to `{queue time, when it was}` of what they were last given. Without, `nil`.
    given: nil
  ]

  @doc "Tells the server how a start ended."
  @spec started(pid, pid, GenRegistry.Types.id(), Starter.outcome()) :: :ok
  def started(server, starter, id, outcome) do
    send(server, {:started, starter, id, outcome})
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

    {:ok,
     %__MODULE__{
       name: name,
       worker_module: worker_module,
       max_children: opts[:max_children],
       max_starting: opts[:max_starting],
       worker_shutdown: opts[:worker_shutdown],
       table: Table.open(name, opts[:max_children]),
       schedule: Schedule.new(opts[:max_starting], &__MODULE__.waiting?/1),
       given: if(Telemetry.present?(), do: %{})
     }}
  end

  # Public, because a reference to a private function is one to this version of the code: after an
  # upgrade it would be invalid.
  @doc false
  def waiting?({pid, _tag}) when node(pid) == node(), do: Table.alive?(pid)
  # A caller on another node is taken to wait while that node is there.
  def waiting?({pid, _tag}), do: node(pid) in Node.list(:connected)

  @impl true
  def handle_call({kind, id, args}, from, state) when kind in [:lookup_or_start, :start] do
    case Table.lookup_alive(state.name, id) do
      {:ok, pid} when kind == :lookup_or_start -> {:reply, {:ok, pid}, state}
      {:ok, pid} -> {:reply, {:error, {:already_started, pid}}, state}
      {:error, :not_found} -> request_start(state, id, {kind, from, {args, received(state)}})
    end
  end

  def handle_call({:stop, id}, {caller, _} = from, state) do
    case state.ending do
      # It cannot end while it waits for its own end.
      %{^id => {^caller, _, _}} -> {:reply, :ok, state}
      %{} -> request(state, id, {:stop, from})
    end
  end

  def handle_call({:register, id, pid, parent}, from, state)
      when is_pid(pid) and node(pid) == node() do
    case Table.lookup_alive(state.name, id) do
      {:ok, _pid} -> {:reply, :no, state}
      {:error, :not_found} -> request(state, id, {:register, from, pid, parent})
    end
  end

  def handle_call(:info, _from, state), do: {:reply, info(state), state}

  def handle_call(:which_children, from, state) do
    answer_apart(from, fn -> which_children(state) end)
    {:noreply, state}
  end

  def handle_call(:count_children, from, state) do
    answer_apart(from, fn -> count_children(state) end)
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
  def handle_info({:started, starter, id, outcome}, state) do
    {outcome, alive?} = now(outcome, id, state)
    state = carry_out(state, Schedule.started(state.schedule, starter, id, outcome, alive?))
    # Of a start that failed, the next one for the starter has the place. There may be none.
    if bounded?(state) and Schedule.idle?(state.schedule, starter) do
      Table.give_back(state.table, starter)
    end

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

  def handle_info({:time_is_over, id, monitor}, state) do
    with %{^id => {pid, ^monitor, _}} <- state.ending, do: Process.exit(pid, :kill)
    {:noreply, state}
  end

  def handle_info({:refused, worker, starter}, state)
      when is_pid(worker) and node(worker) == node() do
    order_to_end(state, worker, starter, &{:refused_too_long, worker, &1})
    {:noreply, state}
  end

  # The monitor is there for as long as the worker is.
  def handle_info({:refused_too_long, worker, monitor}, state)
      when is_pid(worker) and is_reference(monitor) do
    if Process.demonitor(monitor, [:info]), do: Process.exit(worker, :kill)
    {:noreply, state}
  end

  # In a process of its own: callers may take their time to say what they are.
  def handle_info(:probe, state) do
    %{table: table, schedule: schedule} = state
    server = self()

    # Most have had their turn meanwhile.
    waiting =
      for {id, {caller, _} = from} <- state.unprobed,
          node(caller) == node() and Schedule.in_flight?(schedule, id),
          do: {id, from}

    if waiting != [] do
      {_idle, busy} = Schedule.starters(schedule)

      Shutdown.apart(fn ->
        for {id, {caller, _} = from} <- Enum.reverse(waiting),
            {:ok, starter} <- [initialising(caller, busy, table)] do
          send(server, {:nested, id, from, starter})
        end
      end)
    end

    {:noreply, %{state | unprobed: []}}
  end

  def handle_info({:nested, id, from, starter}, state) do
    {:noreply, carry_out(state, Schedule.nested(state.schedule, id, from, starter))}
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
    {sweeper, sweepers} = Map.pop(state.sweepers, pid)
    if sweeper, do: Sweeper.report(sweeper)
    held = Enum.reject(state.held, &match?({:start, ^pid, _, _}, &1))
    {given, state} = pop_given(%{state | sweepers: sweepers, held: held}, pid)
    state = carry_out(state, Schedule.starter_died(state.schedule, pid, reason))
    with %{^pid => id} <- state.clearing, do: tell_of_killed(state, id, reason, given)
    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    Table.close(state.table)
    {idle, busy} = Schedule.starters(state.schedule)
    by_parent = Enum.group_by(Shutdown.alive(state.name, self()), &elem(&1, 1), &elem(&1, 0))

    # Those that are idle can end their workers as a parent does. They exit after that, which ends
    # what does not trap exits at once.
    {by_idle, by_others} = Map.split(Map.delete(by_parent, nil), idle)
    for {starter, workers} <- by_idle, do: Starter.shut_down(starter, workers)

    for {parent, workers} <- by_others, worker <- workers do
      Shutdown.signal(worker, parent)
    end

    Enum.each(idle ++ busy, &Starter.exit/1)
    # They end when their starters have.
    for {_starter, sweeper} <- state.sweepers, do: Sweeper.report(sweeper)
    Shutdown.await_all(state.name, state.worker_shutdown)
  end

  # `:observer` and release upgrades ask supervisors, by this, for the module that started them.
  @impl true
  def format_status(_reason, [_dictionary, state]) do
    [data: [{~c"State", state}], supervisor: [{~c"Callback", GenRegistry}]]
  end

  # The live process that an id has when its start has ended: a failed one may have left a guest.
  defp now(outcome, id, state) do
    if match?({:ok, pid} when node(pid) == node(), outcome) and Table.alive?(elem(outcome, 1)) do
      {outcome, true}
    else
      case Table.lookup_alive(state.name, id) do
        {:ok, _pid} = guest -> {guest, true}
        {:error, :not_found} -> {outcome, false}
      end
    end
  end

  ## What the schedule decided

  # Where there is no room, whoever asks is told so at once, rather than when its turn comes. But an
  # id in flight may need none, or its own: as may any, while it is not known what is left of others.
  defp request_start(state, id, request) do
    if bounded?(state) and state.clearing == %{} and
         not Schedule.in_flight?(state.schedule, id) and not Table.room?(state.table, id) do
      {:reply, {:error, :max_children}, state}
    else
      request(state, id, request)
    end
  end

  defp bounded?(state), do: state.max_children != :infinity

  defp request(state, id, request) do
    {:noreply, carry_out(state, Schedule.request(state.schedule, id, request))}
  end

  defp carry_out(state, {schedule, actions}) do
    Enum.reduce(actions, %{state | schedule: schedule}, &act(&2, &1))
  end

  defp act(state, {:reply, from, answer}) do
    GenServer.reply(from, answer)
    state
  end

  defp act(state, {:start, :new, id, request}) do
    case start_starter(state) do
      {:ok, starter, sweeper} ->
        state = put_in(state.sweepers[starter], sweeper)
        state = update_in(state.schedule, &Schedule.assigned(&1, id, starter))
        act(state, {:start, starter, id, request})

      {:error, reason} ->
        carry_out(state, Schedule.not_assigned(state.schedule, id, reason))
    end
  end

  defp act(state, {:start, starter, id, request} = start) do
    cond do
      not bounded?(state) or Table.promise(state.table, id, starter) ->
        give(state, starter, id, request)

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

  defp act(state, {:clear, starter, id}) do
    put_in(state.clearing[starter], id)
  end

  # Most who wait have their turn before this is due, and need no probe.
  defp act(state, {:probe, id, from}) do
    if state.unprobed == [], do: Process.send_after(self(), :probe, @probe_after)
    update_in(state.unprobed, &[{id, from} | &1])
  end

  defp give(%{given: nil} = state, starter, id, {_kind, from, {args, nil}}) do
    Starter.run(starter, id, args, from, nil)
    state
  end

  defp give(state, starter, id, {_kind, from, {args, received}}) do
    now = System.monotonic_time()
    Starter.run(starter, id, args, from, now - received)
    put_in(state.given[starter], {now - received, now})
  end

  # The busy starter in whose worker's init, or in whose `start_link`, this process runs.
  defp initialising(pid, busy, table) do
    cond do
      pid in busy ->
        {:ok, pid}

      # A worker is known once its init is over.
      Table.known?(table, pid) ->
        :no

      true ->
        case Process.info(pid, :parent) do
          {:parent, parent} when is_pid(parent) -> initialising(parent, busy, table)
          _ -> :no
        end
    end
  end

  # Where the VM has no room for more processes, that is no reason to end those there are.
  defp start_starter(%{table: table} = state) do
    telemetry? = state.given != nil

    with {:ok, starter} <- Starter.start(state.name, state.worker_module, table, telemetry?) do
      Table.track(table, starter, nil)
      {:ok, starter, start_sweeper(starter, state)}
    end
  rescue
    SystemLimitError -> {:error, :system_limit}
  end

  # A starter without one is of no use, and takes the room.
  defp start_sweeper(starter, state) do
    Sweeper.start(starter, state.table, state.worker_shutdown)
  rescue
    error in SystemLimitError ->
      Starter.exit(starter)
      reraise error, __STACKTRACE__
  end

  defp end_worker(state, id, pid, parent) do
    {monitor, timer} = order_to_end(state, pid, parent, &{:time_is_over, id, &1})

    # A worker that stops itself must not wait for its own end.
    {{:stopping, callers}, _line} = state.schedule.flights[id]
    for {^pid, _} = from <- callers, do: GenServer.reply(from, :ok)

    %{
      state
      | ending: Map.put(state.ending, id, {pid, monitor, timer}),
        downs: Map.put(state.downs, monitor, id)
    }
  end

  # Answers the worker's monitor, and the timer of the message that is made of that.
  defp order_to_end(%{worker_shutdown: time} = state, pid, parent, when_time_is_over) do
    monitor = Process.monitor(pid)

    cond do
      time == :brutal_kill -> Process.exit(pid, :kill)
      Schedule.idle?(state.schedule, parent) -> Starter.shut_down(parent, [pid])
      true -> Shutdown.signal(pid, parent)
    end

    timer = if is_integer(time), do: Process.send_after(self(), when_time_is_over.(monitor), time)

    {monitor, timer}
  end

  ## Events and reports

  defp received(%{given: nil}), do: nil
  defp received(_state), do: System.monotonic_time()

  defp pop_given(%{given: nil} = state, _starter), do: {nil, state}
  defp pop_given(state, starter), do: pop_in(state.given[starter])

  # A start whose starter was killed. In a process of its own: handlers may take their time.
  defp tell_of_killed(%{name: name, worker_module: module}, id, reason, given) do
    now = System.monotonic_time()

    Shutdown.apart(fn ->
      with {queue_time, begun} <- given do
        times = %{duration: now - begun, queue_time: queue_time, monotonic_time: now}
        metadata = %{registry: name, worker_module: module, id: id}
        how = %{kind: :exit, reason: reason, stacktrace: []}
        Telemetry.execute([:start, :exception], times, Map.merge(metadata, how))
      end

      Report.failed(name, module, id, {:starter_died, reason})
    end)
  end

  ## Questions

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
      starters: map_size(state.sweepers),
      memory: Table.memory(state.table),
      options: [
        max_children: state.max_children,
        max_starting: state.max_starting,
        worker_shutdown: state.worker_shutdown
      ]
    }
  end

  # A list of a million children takes a while to make.
  defp answer_apart(from, fun), do: Shutdown.apart(fn -> GenServer.reply(from, fun.()) end)

  defp which_children(%{name: name, worker_module: module} = state) do
    type = child_type(state)

    Table.reduce_children(name, [], fn entries, children ->
      for {id, pid} <- entries, reduce: children do
        children -> [{id, pid, type, [module]} | children]
      end
    end)
  end

  defp count_children(%{name: name} = state) do
    count = Table.count_children(name)
    supervisors = if child_type(state) == :supervisor, do: count, else: 0
    [specs: count, active: count, supervisors: supervisors, workers: count - supervisors]
  end

  # A supervisor says so in its initial call. One worker speaks for all: they are started alike.
  defp child_type(%{name: name, table: table, worker_module: module}) do
    with {_id, pid} <- Table.sample(name),
         # A guest says nothing of them.
         true <- Table.known?(table, pid),
         {:dictionary, dictionary} <- Process.info(pid, :dictionary),
         {:supervisor, _, _} <- dictionary[:"$initial_call"] do
      :supervisor
    else
      _ -> if supervisor?(module), do: :supervisor, else: :worker
    end
  end

  defp supervisor?(module) do
    behaviours = for {:behaviour, behaviours} <- module.module_info(:attributes), do: behaviours

    module in [:supervisor, Supervisor, DynamicSupervisor, PartitionSupervisor] or
      Enum.any?(List.flatten(behaviours), &(&1 in [:supervisor, Supervisor, DynamicSupervisor]))
  end
end
