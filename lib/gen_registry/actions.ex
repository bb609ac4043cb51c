defmodule GenRegistry.Actions do
  @moduledoc false
  # Carries out what `GenRegistry.Schedule` decides, in the server and on its state.

  alias GenRegistry.{
    Callers,
    Earlier,
    Endings,
    Events,
    Held,
    Schedule,
    Shutdown,
    Starter,
    Starters
  }

  alias GenRegistry.{Sweeper, Table, TermMap, Types, Waiting}

  # After how many milliseconds it is tried again to start what the VM had no room for.
  @again 100

  @typedoc "The state of `GenRegistry.Server`."
  @type state :: struct

  @doc "Carries out what the schedule decided."
  @spec carry_out(state, {Schedule.t(), [Schedule.action()]}) :: state
  def carry_out(state, {schedule, actions}) do
    Enum.reduce(actions, %{state | schedule: schedule}, &act(&2, &1))
  end

  @doc "Carries out one action."
  @spec act(state, Schedule.action()) :: state
  def act(state, {:reply, request, reply}) do
    Callers.reply(Schedule.from(request), reply)
    act(state, {:forget, request})
  end

  # Of those whose failure it is too. It may be large: the server does not take it.
  def act(state, {:share, [], reason}) do
    Held.let_go(reason)
    state
  end

  def act(state, {:share, requests, reason}) do
    state = Enum.reduce(requests, state, &act(&2, {:forget, &1}))
    froms = Enum.map(requests, &Schedule.from/1)

    Shutdown.apart(fn ->
      failure = {:error, Held.take(reason)}
      for from <- froms, do: Callers.reply(from, failure)
    end)

    state
  end

  def act(state, {:forget, request}) do
    with {_kind, _from, _key, {args, _received}} <- request, do: Held.let_go(args)
    unwatch(state, request)
  end

  def act(state, {:start, :new, id, request}) do
    case start_starter(state) do
      {:ok, starter} ->
        state = update_in(state.schedule, &Schedule.assigned(&1, id, starter))
        act(state, {:start, starter, id, request})

      {:error, reason} ->
        state = give_place_back(state, id)
        carry_out(state, Schedule.not_assigned(state.schedule, id, reason))
    end
  end

  def act(state, {:start, starter, id, request} = start) do
    cond do
      not bounded?(state) ->
        give(unwatch(state, request), starter, id, request)

      inherited?(state, id, starter) or Table.promise(state.table, id, starter) ->
        state = %{state | places: TermMap.delete(state.places, id)}
        give(unwatch(state, request), starter, id, request)

      state.clearing == %{} ->
        state = refused(state, id)
        carry_out(state, Schedule.refused(state.schedule, id, starter, :max_children))

      true ->
        update_in(state.held, &[start | &1])
    end
  end

  def act(state, {:stop, id}) do
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

  # A worker that replaces itself cannot wait for its own end.
  def act(state, {:replace, id, {:replace, {caller, _}, _, _}}) do
    case Table.lookup_alive(state.name, id) do
      {:ok, ^caller} ->
        own? = Table.known?(state.table, caller)
        reason = if own?, do: {:deadlock, [{state.name, id}]}, else: :not_supervised
        carry_out(state, Schedule.left_alone(state.schedule, id, caller, reason))

      {:ok, pid} ->
        left? = bounded?(state) and Table.leave_place(state.table, pid)
        act(if(left?, do: put_place(state, id, pid), else: state), {:stop, id})

      {:error, :not_found} ->
        act(state, {:stop, id})
    end
  end

  def act(state, {:look, id}) do
    case Table.lookup_alive(state.name, id) do
      {:ok, pid} -> carry_out(state, Schedule.left_alone(state.schedule, id, pid, nil))
      {:error, _} = none -> carry_out(state, Schedule.stopped(state.schedule, id, none))
    end
  end

  # As its own parent: it is none of our children.
  def act(state, {:register, id, {:register, _from, pid, _parent} = request}) do
    registered? = Table.register(state.table, id, pid, pid) == :ok
    state = if registered?, do: wake(state, id, pid), else: state
    carry_out(state, Schedule.registered(state.schedule, id, request, registered?))
  end

  def act(state, :fill_places), do: carry_out(state, Schedule.fill_places(state.schedule))

  def act(state, {:await_sweep, starter, id}) do
    put_in(state.clearing[starter], id)
  end

  @doc "Counts a start for which there is no room, and tells of it."
  @spec refused(state, Types.id()) :: state
  def refused(state, id) do
    if state.counts do
      how = %{id: id, reason: :max_children}
      Events.emit(state.events, [:worker, :refused], %{count: 1}, how)
    end

    %{state | refused: state.refused + 1}
  end

  @doc "Tells those who wait for it that an id has a process."
  @spec wake(state, Types.id(), pid) :: state
  def wake(state, id, pid) do
    {froms, waiting} = Waiting.pop(state.waiting, id)
    # There may be many.
    if froms != [],
      do: Shutdown.apart(fn -> for(from <- froms, do: GenServer.reply(from, {:ok, pid})) end)

    %{state | waiting: waiting}
  end

  # Of ids that are being replaced, the worker whose place the next one gets.
  defp put_place(state, id, pid), do: update_in(state.places, &TermMap.put(&1, id, pid))

  defp give_place_back(state, id) do
    case TermMap.fetch(state.places, id) do
      {:ok, pid} ->
        Table.give_back(state.table, pid)
        %{state | places: TermMap.delete(state.places, id)}

      :error ->
        state
    end
  end

  defp inherited?(state, id, starter) do
    with {:ok, pid} <- TermMap.fetch(state.places, id),
         do: Table.inherit_place(state.table, pid, starter),
         else: (:error -> false)
  end

  defp unwatch(state, request) do
    %{state | callers: Callers.unwatch(state.callers, Schedule.from(request))}
  end

  defp give(%{given: nil} = state, starter, id, {_kind, from, _key, {args, nil}}) do
    Starter.run(starter, id, args, from, nil)
    state
  end

  defp give(state, starter, id, {_kind, from, _key, {args, received}}) do
    now = System.monotonic_time()
    {caller, _tag} = from
    span = %{telemetry_span_context: make_ref(), caller: caller}
    Starter.run(starter, id, args, from, {now - received, span})
    put_in(state.given[starter], {now - received, now, span})
  end

  ## The processes beside it

  # Where the VM has no room for more processes, that is no reason to end those there are.
  defp start_starter(%{table: table, events: events} = state) do
    with {:ok, starter} <-
           Starter.start(state.name, state.worker_module, table, events, state.counts) do
      # Not by a link, which a start could undo.
      Process.monitor(starter)
      Table.track(table, starter, nil)
      if state.sweeper, do: Sweeper.watch(state.sweeper, starter)
      {:ok, starter}
    end
  rescue
    SystemLimitError -> {:error, :system_limit}
  end

  @doc "Has a starter that waits exit."
  @spec let_go(state, pid) :: :ok
  def let_go(state, starter) do
    # First, so that it is not swept after.
    if state.sweeper, do: Sweeper.let_go(state.sweeper, starter)
    Starter.exit(starter)
  end

  @doc "Starts the event process."
  @spec start_events(state) :: state
  def start_events(state) do
    events = Events.start(state.name, state.worker_module, Table.key(state.table), state.counts)
    monitor(%{state | events: events}, events, :events)
  end

  @doc """
  Starts the sweeper, which is to know of all starters that live, and of those that have died and left
  something.
  """
  @spec start_sweeper(state) :: state
  def start_sweeper(state) do
    sweeper = Sweeper.start(state.name, Table.key(state.table), state.worker_shutdown, self())
    starters = Starters.pids(state.schedule.starters) ++ Map.keys(state.clearing)
    for starter <- starters, do: Sweeper.watch(sweeper, starter)
    monitor(%{state | sweeper: sweeper}, sweeper, :sweeper)
  end

  defp monitor(state, pid, which) do
    put_in(state.monitors[Process.monitor(pid)], which)
  end

  @doc "Watches the sweepers of earlier registries, which end what those have left."
  @spec watch_sweepers(state) :: state
  def watch_sweepers(state) do
    Enum.reduce(Earlier.tables(state.table), state, &start_again(&2, {:sweeper, &1}))
  end

  defp watch_sweeper(state, earlier) do
    case Earlier.sweeper(state.name, earlier, state.worker_shutdown) do
      nil -> state
      sweeper -> monitor(state, sweeper, {:sweeper, earlier})
    end
  end

  @doc "Starts one of the processes beside the server again, now or when the VM has room for it."
  @spec start_again(state, :events | :sweeper | {:sweeper, Table.key()}) :: state
  def start_again(state, which) do
    case which do
      :events -> start_events(state)
      :sweeper -> start_sweeper(state)
      {:sweeper, earlier} -> watch_sweeper(state, earlier)
    end
  rescue
    SystemLimitError ->
      Process.send_after(self(), {:start_again, which}, @again)
      state
  end

  ## Ends of workers

  @doc "What an earlier registry has left of an id is to end before anything else is done for the id."
  @spec await_left(state, Types.id(), Earlier.left()) :: state
  def await_left(state, id, left) do
    state = update_in(state.schedule, &Schedule.occupied(&1, id))

    case left do
      {:starter, starter} ->
        update_in(state.left[starter], &[id | &1 || []])

      {pid, parent} ->
        update_in(state.endings, &Endings.add_left(&1, id, pid, parent))
    end
  end

  @doc "What an id had is gone. There may be more of it."
  @spec gone(state, Types.id(), :ok) :: state
  def gone(state, id, reply) do
    case if(state.earlier?, do: Earlier.find(state.table, id), else: :none) do
      none when none in [:none, :not_found] ->
        carry_out(state, Schedule.stopped(state.schedule, id, reply))

      left ->
        await_left(state, id, left)
    end
  end

  defp end_worker(state, id, pid, parent) do
    endings = Endings.add(state.endings, id, pid, parent, waiting?(state, parent))
    # A worker that stops itself must not wait for its own end.
    carry_out(%{state | endings: endings}, Schedule.stops_itself(state.schedule, id, pid))
  end

  @doc "Whether a starter waits, and can tell its workers to end."
  @spec waiting?(state, pid | nil) :: boolean
  def waiting?(state, starter), do: Starters.waiting?(state.schedule.starters, starter)

  @doc "Whether there is a bound of children."
  @spec bounded?(state) :: boolean
  def bounded?(state), do: state.max_children != :infinity
end
