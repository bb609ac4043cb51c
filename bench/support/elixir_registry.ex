defmodule Bench.ElixirRegistry do
  @moduledoc false
  # Elixir's `Registry`, unique and with a partition for each scheduler, beside the supervisor that
  # its users start their workers under.

  def start_link(supervisor, name) do
    registry = {Registry, keys: :unique, name: name, partitions: System.schedulers_online()}
    Supervisor.start_link([registry, supervisor], strategy: :one_for_all)
  end

  def lookup(name, id) do
    case Registry.lookup(name, id) do
      [{pid, _}] -> {:ok, pid}
      [] -> {:error, :not_found}
    end
  end

  def lookup_or_start(supervisor, name, id, args) do
    with {:error, :not_found} <- lookup(name, id) do
      init_ms = List.first(args, 0)
      start = {Bench.Worker, :start_link, [init_ms, {name, id}]}
      spec = %{id: Bench.Worker, start: start, restart: :temporary}

      case DynamicSupervisor.start_child(supervisor, spec) do
        {:error, {:already_started, pid}} -> {:ok, pid}
        answer -> answer
      end
    end
  end

  def stop(supervisor, name, id) do
    with {:ok, pid} <- lookup(name, id) do
      DynamicSupervisor.terminate_child(supervisor, pid)
    end
  end

  def supervisors(name), do: Module.concat(name, Supervisors)
end

defmodule Bench.DynamicRegistry do
  @moduledoc false
  # With one `DynamicSupervisor`.

  alias Bench.ElixirRegistry

  def start_link(_worker_module, name: name) do
    ElixirRegistry.start_link({DynamicSupervisor, name: supervisor(name)}, name)
  end

  def lookup_or_start(name, id, args \\ [], _timeout \\ :infinity) do
    ElixirRegistry.lookup_or_start(supervisor(name), name, id, args)
  end

  def stop(name, id), do: ElixirRegistry.stop(supervisor(name), name, id)

  def count(name), do: Registry.count(name)

  defp supervisor(name), do: ElixirRegistry.supervisors(name)
end

defmodule Bench.PartitionedRegistry do
  @moduledoc false
  # With a `DynamicSupervisor` for each scheduler, chosen by the id.

  alias Bench.ElixirRegistry

  def start_link(_worker_module, name: name) do
    supervisors = ElixirRegistry.supervisors(name)
    supervisor = {PartitionSupervisor, child_spec: DynamicSupervisor, name: supervisors}
    ElixirRegistry.start_link(supervisor, name)
  end

  def lookup_or_start(name, id, args \\ [], _timeout \\ :infinity) do
    ElixirRegistry.lookup_or_start(supervisor(name, id), name, id, args)
  end

  def stop(name, id), do: ElixirRegistry.stop(supervisor(name, id), name, id)

  def count(name), do: Registry.count(name)

  defp supervisor(name, id) do
    {:via, PartitionSupervisor, {ElixirRegistry.supervisors(name), id}}
  end
end
