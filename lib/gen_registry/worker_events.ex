defmodule GenRegistry.WorkerEvents do
  @moduledoc false
  # What a starter tells of its workers: the events of their starts by itself, those of their ends by
  # the event process. It has a start's events only if there is `:telemetry`.

  alias GenRegistry.{CleanRoom, Events, Server, Starter, Table, Telemetry}

  @typedoc "The state of `GenRegistry.Starter`."
  @type state :: struct

  @doc "Emits that a start begins, with metadata of its span. Returns when, for its duration."
  @spec begin(state, GenRegistry.Types.id(), map) :: integer
  def begin(state, id, span) do
    now = System.monotonic_time()
    times = %{monotonic_time: now, system_time: System.system_time()}
    Telemetry.execute([:worker, :start, :start], times, metadata(state, id, span))
    System.monotonic_time()
  end

  @doc "Emits how a start ended."
  @spec tell_of(state, GenRegistry.Types.id(), Starter.result(), map, span :: map) :: :ok
  def tell_of(state, id, {:ok, pid}, times, span) do
    ended = Map.merge(span, %{result: :ok, pid: pid})
    # First, for a handler may outlive the registry.
    Events.count_start(state.counts)
    Telemetry.execute([:worker, :start, :stop], times, metadata(state, id, ended))
  end

  def tell_of(state, id, {:raised, kind, reason, stacktrace}, times, span) do
    raised = Map.merge(span, %{kind: kind, reason: reason, stacktrace: stacktrace})
    Telemetry.execute([:worker, :start, :exception], times, metadata(state, id, raised))
  end

  # The end of the registry does not wait for handlers.
  def tell_of(state, id, {:not_registered, :shutdown, _pid}, times, span) do
    failed = Map.merge(span, %{id: id, result: {:error, :shutdown}, pid: nil})
    Events.emit(state.events, [:worker, :start, :stop], times, failed)
  end

  def tell_of(state, id, result, times, span) do
    failed = Map.merge(span, %{result: Starter.outcome(result), pid: nil})
    Telemetry.execute([:worker, :start, :stop], times, metadata(state, id, failed))
  end

  @doc "Watches a worker, which was registered at this time."
  @spec watch(state, GenRegistry.Types.id(), Starter.result(), integer) :: state
  # Also for a worker that is not linked, or ends its link: nobody else would tell of its end.
  def watch(state, id, {:ok, pid}, registered) do
    workers = Map.put(state.workers, pid, {id, registered, Process.monitor(pid)})
    %{state | workers: workers, room: CleanRoom.update(state.room)}
  end

  def watch(state, _id, _failed, _registered), do: state

  @doc "A worker has ended, if it is one."
  @spec note_exit(state, pid, reason :: term) :: state
  def note_exit(state, pid, reason) when is_map_key(state.workers, pid) do
    {{id, registered, _monitor}, workers} = Map.pop!(state.workers, pid)
    now = System.monotonic_time()
    times = %{lifetime: now - registered, monotonic_time: now}
    Events.emit(state.events, [:worker, :exit], times, %{id: id, pid: pid, reason: reason})
    %{state | workers: workers}
  end

  def note_exit(state, _pid, _reason), do: state

  @doc "A monitor has come to its end."
  @spec note_down(state, reference, pid, reason :: term) :: state
  # There is another one, or will be.
  def note_down(%{events: events} = state, _monitor, events, _reason) do
    Server.which_events(state.server, self())
    state
  end

  # A worker that was not linked, or the news of its link comes later.
  def note_down(%{workers: %{} = workers} = state, monitor, pid, reason) do
    case workers do
      # A monitor may come too late for the reason, a link does not.
      %{^pid => {_id, _registered, ^monitor}} when reason == :noproc ->
        state = note_exit(state, pid, link_reason(pid))
        %{state | room: CleanRoom.update(state.room)}

      # Not linked: then there is no other news of it.
      %{^pid => {_id, _registered, ^monitor}} ->
        if reason == {:shutdown, :idle}, do: Table.ended_idle(state.table)
        note_exit(state, pid, reason)

      %{} ->
        state
    end
  end

  def note_down(state, _monitor, _pid, _reason), do: state

  # Those that are linked to a dead process are told one after the other: while the link is there,
  # word of it is on the way. It may be that it had unlinked itself.
  defp link_reason(pid) do
    linked? = pid in CleanRoom.links()

    receive do
      {:EXIT, ^pid, reason} -> reason
    after
      if(linked?, do: 10, else: 0) -> if linked?, do: link_reason(pid), else: :noproc
    end
  end

  defp metadata(state, id, more) do
    state.name
    |> Telemetry.metadata(state.worker_module)
    |> Map.put(:id, id)
    |> Map.merge(more)
  end
end
