defmodule GenRegistry.Starter do
  @moduledoc false
  # Runs workers' `start_link`, and is therefore their parent for as long as they live. Whatever a
  # worker's start does, it does it to one starter only: blocks it, crashes it, changes it.
  #
  # It says itself when it may be given the next start: after the handlers of the last one's events,
  # and once it is as it was before.

  use GenServer

  import GenRegistry.WorkerEvents

  alias GenRegistry.{Callers, CleanRoom, Earlier, Events, Held, Remains, Server, Sweeper, Table}

  # How many workers it parents at the most, and of how many it takes starts again.
  @most 64
  @room 48

  # How often it looks whether it is idle, in milliseconds. A timeout for each message instead would
  # have to be set and cancelled for each start, which takes several microseconds.
  @tick 1_000

  defstruct [
    :server,
    :name,
    :worker_module,
    :table,
    :events,
    :room,
    # The monitor of the sweeper, once the server is gone.
    :sweeper,
    # With events, what counts them, and the workers that live, as `{id, when it was registered, monitor}`, for those of their
    # ends.
    # Without, `nil`.
    :counts,
    :workers,
    # Whether it may start more: or has `:enough` workers, or was left with `:strangers`.
    takes: :more,
    # Links that are no workers'.
    strangers: [],
    # Whether there was `:work` since the last tick, or `:none`. `nil` if there are no ticks.
    since_tick: nil
  ]

  @type outcome :: {:ok, pid} | {:error, reason :: term}

  @typedoc "How a start ended. A process that is not registered was returned by `start_link` all the same."
  @type result ::
          {:ok, pid}
          | {:failed, reason :: term}
          | {:raised, :error | :throw | :exit, reason :: term, Exception.stacktrace()}
          | {:not_registered, reason :: term, pid}

  @doc "Starts a starter for the calling server. With `counts` it emits events, which are counted by that."
  @spec start(GenRegistry.name(), module, Table.t(), events :: pid, Events.counts() | nil) ::
          GenServer.on_start()
  def start(name, worker_module, table, events, counts) do
    # Not `start_link`: as the GenServer's parent, the server would take the starter down with the
    # reason of its own death. The link that matters is made in `init/1`.
    GenServer.start(__MODULE__, {self(), name, worker_module, table, events, counts},
      # In a mass death, one exit message per worker comes. On the heap they would all be copied by
      # every garbage collection.
      spawn_opt: [message_queue_data: :off_heap]
    )
  end

  @doc """
  Has an idle starter start a worker for an id.

  It replies to the caller at once, and tells the server by `GenRegistry.Server.started/5`.
  `queued` is for the events: the time in the queue, and metadata of the span. It is `nil` without them.
  """
  @spec run(pid, GenRegistry.Types.id(), Held.t(), Callers.from(), {integer, map} | nil) :: :ok
  def run(starter, id, args, from, queued) do
    tell(starter, {:run, id, args, from, queued})
  end

  @doc "Has a waiting starter, as their parent, send `:shutdown` to these workers."
  @spec shut_down(pid, [pid]) :: :ok
  def shut_down(starter, workers), do: tell(starter, {:shut_down, workers})

  @doc "Has a starter exit when it waits, and with it the workers that are linked to it."
  @spec exit(pid) :: :ok
  def exit(starter), do: tell(starter, :exit)

  @doc "Tells a starter of another event process."
  @spec events(pid, events :: pid) :: :ok
  def events(starter, events), do: tell(starter, {:events, events})

  defp tell(starter, what) do
    send(starter, {__MODULE__, what})
    :ok
  end

  @impl true
  def init({server, name, worker_module, table, events, counts}) do
    Process.flag(:trap_exit, true)
    Process.link(server)
    Process.monitor(events)

    {:ok,
     %__MODULE__{
       server: server,
       name: name,
       worker_module: worker_module,
       table: table,
       events: events,
       counts: counts,
       workers: if(counts, do: %{}),
       room: CleanRoom.note(server)
     }}
  end

  @impl true
  def handle_info({__MODULE__, {:run, id, args, from, queued}}, state) do
    case Table.begin_start(state.table, id) do
      :ok ->
        {:noreply, state |> start_and_tell(id, args, from, queued) |> busy()}

      # A registry that ends has answered whoever waits. If it was killed, they hear of that.
      :closed ->
        Held.let_go(args)
        {:noreply, state}
    end
  end

  def handle_info({__MODULE__, {:shut_down, workers}}, state) do
    Enum.each(workers, &Process.exit(&1, :shutdown))
    {:noreply, state}
  end

  # If the server was killed, its workers wait for others only as those do that are being stopped.
  def handle_info({__MODULE__, :exit}, state) do
    if state.sweeper,
      do: for(pid <- CleanRoom.links(), is_pid(pid), do: Table.told(state.table, pid))

    {:stop, :shutdown, state}
  end

  def handle_info({__MODULE__, {:events, events}}, state) do
    Process.monitor(events)
    {:noreply, %{state | events: events, room: CleanRoom.update(state.room)}}
  end

  # However the server ended, its workers have their time to end well, and do not end all at once. While
  # it is alive, it has not ended: a start may have left such a message.
  def handle_info({:EXIT, server, _reason}, %{server: server} = state) do
    if Table.alive?(server), do: {:noreply, state}, else: wait_for_sweeper(state)
  end

  def handle_info({:EXIT, pid, reason}, state) do
    if reason == {:shutdown, :idle}, do: Table.ended_idle(state.table)
    state = %{state | room: CleanRoom.unlinked(state.room)}
    {:noreply, state |> note_exit(pid, reason) |> make_room() |> busy()}
  end

  def handle_info({:DOWN, monitor, :process, _pid, _reason}, %{sweeper: monitor} = state) do
    wait_for_sweeper(state)
  end

  def handle_info({:DOWN, monitor, :process, pid, reason}, state) do
    state = %{state | room: CleanRoom.unmonitored(state.room)}
    {:noreply, note_down(state, monitor, pid, reason)}
  end

  def handle_info({__MODULE__, :tick}, %{since_tick: :work} = state) do
    {:noreply, tick(state, :none)}
  end

  # Idle since the last one: it collects its garbage, and ends if it is not needed.
  def handle_info({__MODULE__, :tick}, state) do
    if CleanRoom.links() -- [state.server | state.strangers] == [],
      do: Server.spare(state.server, self())

    {:noreply, %{state | since_tick: nil}, :hibernate}
  end

  # What starts left behind.
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def handle_cast(_message, state), do: {:noreply, state}

  # What looks like a call may be from nobody that could be replied to.
  @impl true
  def handle_call(_message, {pid, _tag}, state) when is_pid(pid) do
    {:reply, {:error, :unknown_call}, state}
  end

  def handle_call(_message, _from, state), do: {:noreply, state}

  # It says when this one and its workers are to end. Without one they end now.
  defp wait_for_sweeper(state) do
    case Table.sweeper(state.table) do
      nil ->
        {:stop, :shutdown, state}

      sweeper ->
        Sweeper.orphaned(sweeper, self())
        {:noreply, %{state | sweeper: Process.monitor(sweeper)}}
    end
  end

  defp busy(%{since_tick: nil} = state), do: tick(state, :work)
  defp busy(state), do: %{state | since_tick: :work}

  defp tick(state, since_tick) do
    Process.send_after(self(), {__MODULE__, :tick}, @tick)
    %{state | since_tick: since_tick}
  end

  ## A start

  defp start_and_tell(%{workers: nil} = state, id, args, from, nil) do
    result = start_worker(state, id, args)
    CleanRoom.shield()

    case CleanRoom.news(state.room, worker(result)) do
      {[], false, room} ->
        state = enough(%{state | room: room})
        # First, so that nobody waits for it: it takes no other start before that is done.
        answer(state, id, from, result, remains(state, result, []), state(state))
        CleanRoom.restore(state.room, &ours?/1)
        state

      {links, monitors?, room} ->
        CleanRoom.reset_flags(state.room)
        answer(state, id, from, result, remains(state, result, links), :handling)
        CleanRoom.restore(state.room, &ours?/1)
        %{state | room: room} |> settle(result, links, monitors?) |> rest()
    end
  end

  defp start_and_tell(state, id, args, from, {queue_time, span}) do
    begun = begin(state, id, span)
    result = start_worker(state, id, args)
    ended = System.monotonic_time()
    CleanRoom.shield()
    CleanRoom.reset_flags(state.room)
    {links, monitors?, _room} = CleanRoom.news(state.room, worker(result))
    remains = remains(state, result, links)
    state = watch(state, id, result, ended)
    answer(state, id, from, result, remains, :handling)
    times = %{duration: ended - begun, queue_time: queue_time, monotonic_time: ended}
    tell_of(state, id, result, times, span)
    # With what its handlers did.
    CleanRoom.restore(state.room, &ours?/1)
    state |> settle(result, links, monitors?) |> rest()
  end

  defp ours?(message), do: match?({__MODULE__, _}, message)

  # The server first: whatever the caller does next, the server has heard of this before.
  defp answer(state, id, from, result, remains, starter_state) do
    if Table.end_start(state.table, self()) == :closed,
      do: Earlier.start_is_over(state.name, self())

    outcome = outcome(result)
    Server.started(state.server, self(), id, for_server(result, outcome, remains), starter_state)
    # A registry that ends cuts starts off, which is no error, and has answered, see above.
    unless match?({:not_registered, :shutdown, _pid}, result) do
      Callers.reply(from, outcome)
      with {:error, reason} <- outcome, do: Events.failed(state.events, id, reason)
    end

    :ok
  end

  defp for_server({:ok, pid}, _outcome, _remains), do: {:ok, pid}

  # A failure of `start_link` itself is one for equal arguments too.
  defp for_server(result, {:error, reason}, remains) do
    {:failed, Held.hold(reason), elem(result, 0) != :not_registered, remains}
  end

  @doc "What the caller is told."
  @spec outcome(result) :: outcome
  def outcome({:ok, pid}), do: {:ok, pid}
  def outcome({:failed, reason}), do: {:error, reason}
  def outcome({:not_registered, reason, _pid}), do: {:error, reason}
  def outcome({:raised, :error, error, stacktrace}), do: {:error, {error, stacktrace}}
  def outcome({:raised, :throw, value, stack}), do: {:error, {{:nocatch, value}, stack}}
  def outcome({:raised, :exit, reason, _stacktrace}), do: {:error, reason}

  defp start_worker(state, id, args) do
    with {:ok, pid} <- call_start_link(state.worker_module, args), do: register(state, id, pid)
  end

  defp call_start_link(worker_module, args) do
    result = apply(worker_module, :start_link, Held.take(args))
    may_load_modules()

    case result do
      {:ok, pid} when is_pid(pid) -> {:ok, pid}
      {:ok, pid, _info} when is_pid(pid) -> {:ok, pid}
      :ignore -> {:failed, :ignore}
      {:error, reason} -> {:failed, reason}
      other -> {:failed, {:bad_return_value, other}}
    end
  catch
    kind, reason ->
      may_load_modules()

      reason =
        if kind == :error, do: Exception.normalize(:error, reason, __STACKTRACE__), else: reason

      {:raised, kind, reason, __STACKTRACE__}
  end

  # Before anything that is called here needs a module that is not loaded yet.
  defp may_load_modules, do: :erlang.process_flag(:error_handler, :error_handler)

  defp register(%{events: events}, _id, events),
    do: {:not_registered, {:already_registered, events}, events}

  defp register(state, id, pid) do
    if Table.local?(pid),
      do: register_local(state, id, pid),
      else: {:not_registered, {:not_local, pid}, pid}
  end

  defp register_local(%{table: table}, id, pid) do
    case Table.register(table, id, pid, self()) do
      :ok ->
        {:ok, pid}

      # It has ended already. It was started all the same, as `start_link` said.
      :dead ->
        {:ok, pid}

      # A process that has an id is left alone: it is somebody's worker.
      :pid_taken ->
        {:not_registered, {:already_registered, pid}, pid}

      # The new one has to go, see `GenRegistry.Remains`: no id has two workers.
      {:id_taken, other} ->
        {:not_registered, {:already_started, other}, pid}

      # None starts while the registry ends.
      :closed ->
        Process.exit(pid, :shutdown)
        {:not_registered, :shutdown, pid}

      # Asked for by a bare message: our own functions send none with such an id.
      :id_too_large ->
        Process.exit(pid, :shutdown)
        {:not_registered, :id_too_large, pid}
    end
  end

  ## What a start leaves

  defp remains(state, result, links),
    do: Remains.end_all(state.table, state.server, result, links)

  # Links to others are undone. With processes of its own but the worker, with ports, and with
  # monitors, whose references are not known, it takes no more starts.
  defp settle(state, result, links, monitors?) do
    # And what the handlers of events have added.
    {more, more?, _room} = CleanRoom.news(state.room, nil)
    links = Enum.uniq(links ++ List.delete(more, worker(result)))
    strangers = for link <- links, not undone?(link), do: link
    state = %{state | room: CleanRoom.update(state.room), strangers: strangers ++ state.strangers}

    if strangers != [] or monitors? or more?,
      do: %{state | takes: :strangers},
      else: enough(state)
  end

  # A process that was refused stays its parent's, if that is this one.
  defp worker({:ok, pid}), do: pid
  defp worker({:not_registered, _reason, pid}), do: if(Remains.parent(pid) == self(), do: pid)
  defp worker(_result), do: nil

  defp undone?(link), do: is_pid(link) and Remains.parent(link) != self() and Process.unlink(link)

  defp enough(%{takes: :more, room: room} = state) do
    if length(room.links) > @most, do: %{state | takes: :enough}, else: state
  end

  defp enough(state), do: state

  # So many of its workers have ended that it takes starts again.
  defp make_room(%{takes: :enough} = state) do
    room = CleanRoom.update(state.room)
    state = %{state | room: room}
    if length(room.links) > @room, do: state, else: rest(%{state | takes: :more})
  end

  defp make_room(state), do: state

  defp rest(state) do
    Server.rested(state.server, self(), state(state))
    state
  end

  defp state(%{takes: :more}), do: :idle
  defp state(_state), do: :parent
end
