defmodule GenRegistry.Events do
  @moduledoc false
  # The process of a registry that writes its reports to the log, and emits the events of workers'
  # ends. Handlers may take their time, and call the registry: this process is nobody's parent, and
  # nobody waits for it. It outlives the registry until it has told all.

  use GenServer

  alias GenRegistry.{Report, Table, Telemetry}

  @typedoc "How many starts have succeeded, and how many exits there were, of which events have told."
  @type counts :: :counters.counters_ref()

  @doc "There were none. Whatever event processes a registry has, it has one of these."
  @spec new_counts :: counts
  def new_counts, do: :counters.new(2, [])

  @doc "An event has told that a start has succeeded."
  @spec count_start(counts) :: :ok
  def count_start(counts), do: :counters.add(counts, 1, 1)

  @doc "Starts the event process of the calling server. Without `counts` it emits nothing."
  @spec start(GenRegistry.name(), module, Table.key(), counts | nil) :: pid
  def start(name, worker_module, table, counts) do
    # Not linked: neither is to end with the other.
    {:ok, pid} =
      GenServer.start(__MODULE__, {self(), name, worker_module, table, counts},
        spawn_opt: [message_queue_data: :off_heap]
      )

    pid
  end

  @doc "Has a failed start reported."
  @spec failed(pid, GenRegistry.Types.id(), reason :: term) :: :ok
  def failed(events, id, reason), do: tell(events, {:failed, id, reason})

  @doc "Has the event emitted that the registry has started."
  @spec registry_started(pid) :: :ok
  def registry_started(events) do
    times = %{monotonic_time: System.monotonic_time(), system_time: System.system_time()}
    emit(events, [:registry, :start], times, %{})
  end

  @doc "Has an event emitted whose metadata are the registry's and these."
  @spec emit(pid, [atom], map, map) :: :ok
  def emit(events, event, measurements, metadata) do
    tell(events, {:emit, event, measurements, metadata})
  end

  defp tell(events, what) do
    send(events, {__MODULE__, what})
    :ok
  end

  @impl true
  def init({server, name, worker_module, table, counts}) do
    Process.flag(:trap_exit, true)

    {:ok,
     %{
       name: name,
       worker_module: worker_module,
       table: table,
       counts: counts,
       # Whose end it awaits: of the server, then of the sweeper, which is the last of the registry's.
       awaits: Process.monitor(server)
     }}
  end

  @impl true
  def handle_info({__MODULE__, what}, state) do
    handle(what, state)
    # A handler may have let itself be ended by others.
    Process.flag(:trap_exit, true)
    {:noreply, state, timeout(state)}
  end

  def handle_info({:DOWN, monitor, _, _, _}, %{awaits: monitor} = state) do
    sweeper = if state.counts, do: Table.sweeper(state.table)
    state = %{state | awaits: if(sweeper, do: Process.monitor(sweeper))}
    {:noreply, state, timeout(state)}
  end

  # What was told before is handled.
  def handle_info(:timeout, %{awaits: nil} = state) do
    if state.counts, do: registry_stopped(state)
    {:stop, :normal, state}
  end

  def handle_info(:timeout, state), do: {:noreply, state, :hibernate}
  def handle_info(_message, state), do: {:noreply, state, timeout(state)}

  # What looks like a call may be from nobody that could be replied to.
  @impl true
  def handle_call(_message, {pid, _tag}, state) when is_pid(pid) do
    {:reply, {:error, :unknown_call}, state, timeout(state)}
  end

  def handle_call(_message, _from, state), do: {:noreply, state, timeout(state)}

  @impl true
  def handle_cast(_message, state), do: {:noreply, state, timeout(state)}

  # What a report or an event held is given back.
  defp timeout(%{awaits: nil}), do: 0
  defp timeout(_state), do: 1_000

  defp handle({:failed, id, reason}, state) do
    Report.failed(state.name, state.worker_module, id, reason)
  catch
    # A log handler's fault is not the registry's.
    _kind, _reason -> :ok
  end

  defp handle({:emit, event, measurements, metadata}, state) do
    metadata = Map.merge(Telemetry.metadata(state.name, state.worker_module), metadata)
    Telemetry.execute(event, measurements, metadata)
    if event == [:worker, :exit], do: :counters.add(state.counts, 2, 1)
  end

  defp registry_stopped(%{counts: counts} = state) do
    ended = :counters.get(counts, 1) - :counters.get(counts, 2)
    times = %{ended: ended, monotonic_time: System.monotonic_time()}
    handle({:emit, [:registry, :stop], times, %{}}, state)
  end
end
