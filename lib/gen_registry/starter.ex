defmodule GenRegistry.Starter do
  @moduledoc false
  # Runs workers' `start_link`, and is therefore their parent for as long as they live. Whatever a
  # worker's start does, it does it to one starter only: blocks it, crashes it, leaves messages.

  use GenServer

  alias GenRegistry.{Report, Server, Table, Telemetry}

  @type outcome :: {:ok, pid} | {:error, reason :: term}

  @doc "Starts a starter for the calling server. `telemetry?` says whether it is to emit events."
  @spec start(GenRegistry.name(), module, Table.t(), telemetry? :: boolean) ::
          GenServer.on_start()
  def start(name, worker_module, table, telemetry?) do
    # Not `start_link`: as the GenServer's parent, the server would take the starter down with the
    # reason of its own death. The link that matters is made in `init/1`.
    GenServer.start(__MODULE__, {self(), name, worker_module, table, telemetry?},
      # In a mass death, one exit message per worker comes. On the heap they would all be copied by
      # every garbage collection.
      spawn_opt: [message_queue_data: :off_heap]
    )
  end

  @doc """
  Has an idle starter start a worker for an id.

  The answer goes to the caller at once, and to the server by `GenRegistry.Server.started/4`.
  `queue_time` is for the events, and `nil` without them.
  """
  @spec run(pid, GenRegistry.Types.id(), list, GenServer.from(), integer | nil) :: :ok
  def run(starter, id, args, from, queue_time) do
    send(starter, {:run, id, args, from, queue_time})
    :ok
  end

  @doc "Has a starter, as their parent, send `:shutdown` to these workers when it is idle."
  @spec shut_down(pid, [pid]) :: :ok
  def shut_down(starter, workers) do
    send(starter, {:shut_down, workers})
    :ok
  end

  @doc "Has a starter exit when it is idle, and with it the workers that are linked to it."
  @spec exit(pid) :: :ok
  def exit(starter) do
    send(starter, :exit)
    :ok
  end

  @impl true
  def init({server, name, worker_module, table, telemetry?}) do
    Process.flag(:trap_exit, true)
    Process.link(server)

    {:ok,
     %{
       server: server,
       name: name,
       worker_module: worker_module,
       table: table,
       # With events, the workers that live, as `{id, when it was registered, monitor}`, for those of their
       # ends. Without, `nil`.
       workers: if(telemetry?, do: %{})
     }}
  end

  @impl true
  def handle_info({:run, id, args, from, queue_time}, state) do
    begun = begin(state, id)
    result = start_worker(state, id, args)
    ended = begun && System.monotonic_time()
    outcome = outcome(result)
    # What the worker's start may have done to us.
    Process.flag(:trap_exit, true)
    # The server first: whatever the caller does next, the server has heard of this before.
    Server.started(state.server, self(), id, outcome)
    GenServer.reply(from, outcome)
    times = begun && %{duration: ended - begun, queue_time: queue_time, monotonic_time: ended}
    state = note(state, id, result, times)

    with {:error, reason} <- outcome,
         do: Report.failed(state.name, state.worker_module, id, reason)

    {:noreply, state}
  end

  def handle_info({:shut_down, workers}, state) do
    Enum.each(workers, &Process.exit(&1, :shutdown))
    {:noreply, state}
  end

  def handle_info(:exit, state), do: {:stop, :shutdown, state}

  # However the server ended, its workers have their time to end well.
  def handle_info({:EXIT, server, _reason}, %{server: server} = state) do
    {:stop, :shutdown, state}
  end

  def handle_info({:EXIT, pid, reason}, state) when is_map_key(state.workers, pid) do
    {:noreply, note_exit(state, pid, reason)}
  end

  # It was not linked, or the news of the link comes later.
  def handle_info({:DOWN, monitor, :process, pid, reason}, state) do
    case state.workers do
      %{^pid => {_id, _registered, ^monitor}} ->
        # A monitor may come too late for the reason, a link does not.
        reason = if reason == :noproc, do: link_reason(pid, reason), else: reason
        {:noreply, note_exit(state, pid, reason)}

      _ ->
        {:noreply, state}
    end
  end

  # Ends of workers, which the table has heard of by itself, and what their starts left behind.
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def handle_cast(_message, state), do: {:noreply, state}

  @impl true
  def handle_call(_message, _from, state), do: {:reply, {:error, :unknown_call}, state}

  ## Events

  defp begin(%{workers: nil}, _id), do: nil

  defp begin(state, id) do
    times = %{monotonic_time: System.monotonic_time(), system_time: System.system_time()}
    emit([:start, :start], times, metadata(state, id))
    System.monotonic_time()
  end

  defp note(%{workers: nil} = state, _id, _result, _times), do: state

  defp note(state, id, {:ok, pid}, times) do
    # For one that is not linked: nobody else would tell of its end.
    monitor = Process.monitor(pid)
    emit([:start, :stop], times, Map.merge(metadata(state, id), %{result: :ok, pid: pid}))
    put_in(state.workers[pid], {id, times.monotonic_time, monitor})
  end

  defp note(state, id, {:error, reason}, times) do
    result = %{result: {:error, reason}, pid: nil}
    emit([:start, :stop], times, Map.merge(metadata(state, id), result))
    state
  end

  defp note(state, id, {:raised, kind, reason, stacktrace}, times) do
    raised = %{kind: kind, reason: reason, stacktrace: stacktrace}
    emit([:start, :exception], times, Map.merge(metadata(state, id), raised))
    state
  end

  defp note_exit(state, pid, reason) do
    {{id, registered, _monitor}, workers} = Map.pop!(state.workers, pid)
    now = System.monotonic_time()
    times = %{lifetime: now - registered, monotonic_time: now}
    emit([:exit], times, Map.merge(metadata(state, id), %{pid: pid, reason: reason}))
    %{state | workers: workers}
  end

  defp metadata(state, id) do
    %{registry: state.name, worker_module: state.worker_module, id: id}
  end

  defp emit(event, measurements, metadata) do
    Telemetry.execute(event, measurements, metadata)
    # What a handler may have done to us.
    Process.flag(:trap_exit, true)
  end

  ## Starts

  # As the caller is told.
  defp outcome({:raised, :error, error, stacktrace}), do: {:error, {error, stacktrace}}
  defp outcome({:raised, :throw, value, stack}), do: {:error, {{:nocatch, value}, stack}}
  defp outcome({:raised, :exit, reason, _stacktrace}), do: {:error, reason}
  defp outcome(outcome), do: outcome

  defp start_worker(state, id, args) do
    with {:ok, pid} <- call_start_link(state.worker_module, args) do
      register(state, id, pid)
    end
  end

  defp call_start_link(worker_module, args) do
    case apply(worker_module, :start_link, args) do
      {:ok, pid} when is_pid(pid) -> {:ok, pid}
      {:ok, pid, _info} when is_pid(pid) -> {:ok, pid}
      :ignore -> {:error, :ignore}
      {:error, reason} -> {:error, reason}
      other -> {:error, {:bad_return_value, other}}
    end
  catch
    :error, error ->
      {:raised, :error, Exception.normalize(:error, error, __STACKTRACE__), __STACKTRACE__}

    kind, reason ->
      {:raised, kind, reason, __STACKTRACE__}
  end

  defp register(_state, _id, pid) when node(pid) != node(), do: {:error, {:not_local, pid}}

  defp register(%{server: server, table: table}, id, pid) do
    case Table.register(table, id, pid, self()) do
      :ok ->
        {:ok, pid}

      :dead ->
        {:error, exit_reason(pid)}

      # A process that has an id is left alone: it is somebody's worker.
      :pid_taken ->
        {:error, {:already_registered, pid}}

      # The new one has to go: no id has two workers. Its end may take a while.
      {:id_taken, other} ->
        if Table.refuse(table, pid, self()), do: Server.refused(server, pid, self())
        {:error, {:already_started, other}}

      # None starts while the registry ends.
      :closed ->
        Process.exit(pid, :shutdown)
        {:error, :shutdown}

      # Asked for by a bare message: our own functions send none with such an id.
      :id_too_large ->
        Process.exit(pid, :shutdown)
        {:error, :id_too_large}
    end
  end

  # Why a dead process died, if it was linked to us.
  defp exit_reason(pid) do
    monitor = Process.monitor(pid)

    receive do
      {:DOWN, ^monitor, _, _, reason} -> link_reason(pid, reason)
    end
  end

  # Those that are linked to a dead process are told one after the other: while the link is there,
  # word of it is on the way.
  defp link_reason(pid, otherwise) do
    {:links, links} = Process.info(self(), :links)
    linked? = pid in links

    receive do
      {:EXIT, ^pid, reason} -> reason
    after
      # But it may be word that it had unlinked itself.
      if(linked?, do: 10, else: 0) ->
        if linked?, do: link_reason(pid, otherwise), else: otherwise
    end
  end
end
