defmodule Bench.EtsRegistry do
  @moduledoc false
  # What users of gen_registry 1.x have: one GenServer that starts the workers itself, a named
  # public ETS set that callers read, and the workers' ids in the server's process dictionary.

  use GenServer

  def start_link(worker_module, opts) do
    GenServer.start_link(__MODULE__, {worker_module, opts[:name]}, opts)
  end

  def lookup(registry, id) do
    case :ets.lookup(registry, id) do
      [{_, pid}] -> {:ok, pid}
      [] -> {:error, :not_found}
    end
  end

  def lookup_or_start(registry, id, args \\ [], timeout \\ 5_000) do
    with {:error, :not_found} <- lookup(registry, id) do
      GenServer.call(registry, {:lookup_or_start, id, args}, timeout)
    end
  end

  def stop(registry, id), do: GenServer.call(registry, {:stop, id}, :infinity)

  def count(registry), do: :ets.info(registry, :size)

  def reduce(registry, acc, fun), do: :ets.foldl(fun, acc, registry)

  def to_list(registry), do: :ets.tab2list(registry)

  @impl true
  def init({worker_module, name}) do
    Process.flag(:trap_exit, true)
    :ets.new(name, [:public, :set, :named_table, read_concurrency: true])
    {:ok, %{worker_module: worker_module, table: name}}
  end

  @impl true
  def handle_call({:lookup_or_start, id, args}, _from, state) do
    with {:error, :not_found} <- lookup(state.table, id),
         {:ok, pid} <- apply(state.worker_module, :start_link, args) do
      :ets.insert(state.table, {id, pid})
      Process.put(pid, id)
      {:reply, {:ok, pid}, state}
    else
      answer -> {:reply, answer, state}
    end
  end

  def handle_call({:stop, id}, _from, state) do
    case lookup(state.table, id) do
      {:ok, pid} ->
        Process.unlink(pid)
        Process.exit(pid, :shutdown)
        forget(state, pid)
        {:reply, :ok, state}

      not_found ->
        {:reply, not_found, state}
    end
  end

  @impl true
  def handle_info({:EXIT, pid, _reason}, state) do
    forget(state, pid)
    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp forget(state, pid) do
    with id when id != nil <- Process.delete(pid), do: :ets.delete(state.table, id)
  end
end
