defmodule GenRegistry.Starter do
  @moduledoc false
  # Runs workers' `start_link`, and is therefore their parent for as long as they live. Whatever a
  # worker's start does, it does it to one starter only: blocks it, crashes it, leaves messages.

  use GenServer

  alias GenRegistry.{Server, Table}

  @type outcome :: {:ok, pid} | {:error, reason :: term}

  @doc "Starts a starter for the calling server."
  @spec start(module, Table.t()) :: GenServer.on_start()
  def start(worker_module, table) do
    # Not `start_link`: as the GenServer's parent, the server would take the starter down with the
    # reason of its own death. The link that matters is made in `init/1`.
    GenServer.start(__MODULE__, {self(), worker_module, table},
      # In a mass death, one exit message per worker comes. On the heap they would all be copied by
      # every garbage collection.
      spawn_opt: [message_queue_data: :off_heap]
    )
  end

  @doc """
  Has an idle starter start a worker for an id.

  The answer goes to the caller at once, and to the server by `GenRegistry.Server.started/4`.
  """
  @spec run(pid, GenRegistry.Types.id(), list, GenServer.from()) :: :ok
  def run(starter, id, args, from) do
    send(starter, {:run, id, args, from})
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
  def init({server, worker_module, table}) do
    Process.flag(:trap_exit, true)
    Process.link(server)
    {:ok, %{server: server, worker_module: worker_module, table: table}}
  end

  @impl true
  def handle_info({:run, id, args, from}, state) do
    outcome = start_worker(state, id, args)
    # What the worker's start may have done to us.
    Process.flag(:trap_exit, true)
    # The server first: whatever the caller does next, the server has heard of this before.
    Server.started(state.server, self(), id, outcome)
    GenServer.reply(from, outcome)
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

  # Ends of workers, which the table has heard of by itself, and what their starts left behind.
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def handle_cast(_message, state), do: {:noreply, state}

  @impl true
  def handle_call(_message, _from, state), do: {:reply, {:error, :unknown_call}, state}

  defp start_worker(state, id, args) do
    with {:ok, pid} <- call_start_link(state.worker_module, args) do
      register(state.table, id, pid)
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
      {:error, {Exception.normalize(:error, error, __STACKTRACE__), __STACKTRACE__}}

    :throw, value ->
      {:error, {{:nocatch, value}, __STACKTRACE__}}

    :exit, reason ->
      {:error, reason}
  end

  defp register(_table, _id, pid) when node(pid) != node(), do: {:error, {:not_local, pid}}

  defp register(table, id, pid) do
    case Table.register(table, id, pid, self()) do
      :ok ->
        {:ok, pid}

      :dead ->
        {:error, exit_reason(pid)}

      # A process that has an id is left alone: it is somebody's worker.
      :pid_taken ->
        {:error, {:already_registered, pid}}

      # The new one has to go: no id has two workers, and none starts while the registry ends.
      {:id_taken, other} ->
        Process.exit(pid, :shutdown)
        {:error, {:already_started, other}}

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
