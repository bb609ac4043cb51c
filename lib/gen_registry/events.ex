defmodule GenRegistry.Events do
  @moduledoc false
  # The process of a registry that writes its reports to the log, and emits the events of workers'
  # ends. Handlers may take their time, and call the registry: this process is nobody's parent, and
  # nobody waits for it. It outlives the registry until it has told all.

  use GenServer

  alias GenRegistry.{Report, Telemetry}

  @doc "Starts the event process of the calling server."
  @spec start(GenRegistry.name(), module) :: pid
  def start(name, worker_module) do
    # Not linked: neither is to end with the other.
    {:ok, pid} =
      GenServer.start(__MODULE__, {self(), name, worker_module},
        spawn_opt: [message_queue_data: :off_heap]
      )

    pid
  end

  @doc "Has a failed start reported."
  @spec failed(pid, GenRegistry.Types.id(), reason :: term) :: :ok
  def failed(events, id, reason), do: tell(events, {:failed, id, reason})

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
  def init({server, name, worker_module}) do
    Process.flag(:trap_exit, true)
    {:ok, %{name: name, worker_module: worker_module, server: Process.monitor(server)}}
  end

  @impl true
  def handle_info({__MODULE__, what}, state) do
    handle(what, state)
    # A handler may have let itself be ended by others.
    Process.flag(:trap_exit, true)
    {:noreply, state, timeout(state)}
  end

  # What was told before is still in the mailbox.
  def handle_info({:DOWN, server, _, _, _}, %{server: server} = state) do
    {:noreply, %{state | server: nil}, 0}
  end

  def handle_info(:timeout, %{server: nil} = state), do: {:stop, :normal, state}
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
  defp timeout(%{server: nil}), do: 0
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
  end
end
