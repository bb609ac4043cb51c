defmodule GenRegistry.SupervisorTest do
  @moduledoc """
  To supervisors, and to those who walk their trees, a registry is a supervisor.
  """

  use ExUnit.Case, async: true

  defmodule Elixirs do
    use Supervisor
    def start_link, do: Supervisor.start_link(__MODULE__, nil)
    @impl true
    def init(nil) do
      children = [%{id: :child, start: {Agent, :start_link, [fn -> nil end]}}]
      Supervisor.init(children, strategy: :one_for_one)
    end
  end

  defmodule Erlangs do
    @behaviour :supervisor
    def start_link, do: :supervisor.start_link(__MODULE__, nil)
    @impl true
    def init(nil) do
      {:ok, {%{}, [%{id: :child, start: {Agent, :start_link, [fn -> nil end]}}]}}
    end
  end

  defmodule Dynamic do
    use DynamicSupervisor
    def start_link, do: DynamicSupervisor.start_link(__MODULE__, nil)
    @impl true
    def init(nil), do: DynamicSupervisor.init(strategy: :one_for_one)
  end

  # Nothing but its process says that it is a supervisor.
  defmodule Partitioned do
    def start_link do
      name = Module.concat(__MODULE__, "N#{System.unique_integer([:positive])}")
      PartitionSupervisor.start_link(child_spec: {Agent, fn -> nil end}, name: name)
    end
  end

  defmodule Plain do
    def start_link do
      Supervisor.start_link([{Agent, fn -> nil end}], strategy: :one_for_one)
    end
  end

  # Which is no supervisor, whatever its name.
  defmodule WorkerSupervisor do
    use Agent
    def start_link, do: Agent.start_link(fn -> nil end)
  end

  defp registry(%{module: module, test: test}, worker_module) do
    name = Module.concat(module, test)
    opts = [worker_module: worker_module, name: name, max_starting: 1]
    {name, start_supervised!({GenRegistry, opts})}
  end

  test "an empty registry has no children", context do
    {name, registry} = registry(context, ExampleWorker)
    assert Supervisor.which_children(name) == []
    assert :supervisor.which_children(registry) == []
    assert Supervisor.count_children(name) == %{specs: 0, active: 0, supervisors: 0, workers: 0}
  end

  test "children are this registry's, and no other's of the same workers", context do
    {name, registry} = registry(context, ExampleWorker)
    other = Module.concat(name, Other)
    start_supervised!({GenRegistry, worker_module: ExampleWorker, name: other})

    {:ok, a} = GenRegistry.start(name, :a)
    {:ok, b} = GenRegistry.start(name, {"b", 1})
    {:ok, c} = GenRegistry.start(other, :c)

    for server <- [name, registry, {name, node()}] do
      assert Enum.sort(Supervisor.which_children(server)) ==
               [{:a, a, :worker, [ExampleWorker]}, {{"b", 1}, b, :worker, [ExampleWorker]}]

      assert Supervisor.count_children(server) ==
               %{specs: 2, active: 2, supervisors: 0, workers: 2}
    end

    assert Supervisor.which_children(other) == [{:c, c, :worker, [ExampleWorker]}]

    assert Enum.sort(:supervisor.count_children(other)) == [
             active: 1,
             specs: 1,
             supervisors: 0,
             workers: 1
           ]

    # And those that are there now.
    :ok = GenRegistry.stop(name, :a)
    assert [{{"b", 1}, ^b, _, _}] = Supervisor.which_children(name)
    assert %{active: 1} = Supervisor.count_children(name)
  end

  test "all of them are listed, however many there are", context do
    {name, _} = registry(context, IdleWorker)
    for id <- 1..2_500, do: {:ok, _} = GenRegistry.start(name, id)
    children = Supervisor.which_children(name)
    assert length(children) == 2_500

    assert Enum.sort(for {id, pid, _, _} <- children, do: {id, pid}) ==
             Enum.sort(GenRegistry.to_list(name))

    assert %{specs: 2_500, active: 2_500, workers: 2_500} = Supervisor.count_children(name)
  end

  describe "workers that are supervisors" do
    for module <- [Elixirs, Erlangs, Dynamic, Partitioned, Plain] do
      test "are told as such: #{inspect(module)}", context do
        module = unquote(module)
        {name, _} = registry(context, module)
        {:ok, one} = GenRegistry.start(name, :one)
        {:ok, two} = GenRegistry.start(name, :two)

        assert Enum.sort(Supervisor.which_children(name)) ==
                 [{:one, one, :supervisor, [module]}, {:two, two, :supervisor, [module]}]

        assert Supervisor.count_children(name) ==
                 %{specs: 2, active: 2, supervisors: 2, workers: 0}
      end
    end

    for module <- [Supervisor, :supervisor, DynamicSupervisor, PartitionSupervisor] do
      test "may be of the supervisors' own modules: #{inspect(module)}", context do
        module = unquote(module)
        {name, _} = registry(context, module)
        assert {:ok, pid} = GenRegistry.start(name, :id, args(module))
        assert Supervisor.which_children(name) == [{:id, pid, :supervisor, [module]}]
        assert %{supervisors: 1, workers: 0} = Supervisor.count_children(name)
      end
    end

    defp args(Supervisor), do: [[], [strategy: :one_for_one]]
    defp args(:supervisor), do: [Elixirs, nil]
    defp args(DynamicSupervisor), do: [[strategy: :one_for_one]]
    defp args(PartitionSupervisor), do: [[child_spec: {Agent, fn -> nil end}, name: __MODULE__.P]]

    test "are not those that only sound like it", context do
      {name, _} = registry(context, WorkerSupervisor)
      {:ok, pid} = GenRegistry.start(name, :id)
      assert Supervisor.which_children(name) == [{:id, pid, :worker, [WorkerSupervisor]}]
      assert %{supervisors: 0, workers: 1} = Supervisor.count_children(name)
    end

    test "have their children ended with them", context do
      {name, _} = registry(context, Elixirs)
      {:ok, pid} = GenRegistry.start(name, :id)
      [{:child, child, :worker, _}] = Supervisor.which_children(pid)
      monitor = Lifecycle.watch(child)
      assert GenRegistry.stop(name, :id) == :ok
      assert Lifecycle.ended(child, monitor) == :shutdown
    end
  end

  test "other calls of supervisors are refused, and harm nobody", context do
    {name, registry} = registry(context, ExampleWorker)
    {:ok, pid} = GenRegistry.start(name, :id)

    {_, log} =
      ExUnit.CaptureLog.with_log(fn ->
        assert {:error, _} = Supervisor.terminate_child(name, :id)
        assert {:error, _} = Supervisor.restart_child(name, :id)
        assert {:error, _} = Supervisor.delete_child(name, :id)
      end)

    assert log =~ inspect(name)
    assert Process.whereis(name) == registry
    assert GenRegistry.lookup(name, :id) == {:ok, pid}
  end

  describe "a walk through a real tree" do
    # A supervisor of a registry of supervisors, beside a registry of workers.
    setup %{module: module, test: test} do
      [workers, supervisors] = for part <- [W, S], do: Module.concat([module, test, part])

      children = [
        {GenRegistry, worker_module: ExampleWorker, name: workers},
        {GenRegistry, worker_module: Elixirs, name: supervisors},
        {Agent, fn -> nil end}
      ]

      top =
        start_supervised!(%{
          id: :top,
          type: :supervisor,
          start: {Supervisor, :start_link, [children, [strategy: :one_for_one]]}
        })

      {:ok, worker} = GenRegistry.start(workers, "worker")
      {:ok, supervisor} = GenRegistry.start(supervisors, "supervisor")

      {:ok,
       top: top,
       workers: workers,
       supervisors: supervisors,
       worker: worker,
       supervisor: supervisor}
    end

    test "names each supervisor's module, as release upgrades ask for it", context do
      assert :supervisor.get_callback_module(Process.whereis(context.workers)) == GenRegistry
      assert :supervisor.get_callback_module(Process.whereis(context.supervisors)) == GenRegistry
      assert :supervisor.get_callback_module(context.supervisor) == Elixirs
    end

    test "comes by every process, as release upgrades need it", context do
      found = walk(context.top)
      ids = for {id, _pid, _modules} <- found, do: id

      assert Enum.sort(ids) ==
               Enum.sort([
                 Agent,
                 context.workers,
                 context.supervisors,
                 "worker",
                 "supervisor",
                 :child
               ])

      assert {"worker", context.worker, [ExampleWorker]} in found
      assert {"supervisor", context.supervisor, [Elixirs]} in found
      assert {context.workers, Process.whereis(context.workers), [GenRegistry]} in found
    end

    test "is told of a registry that it is a supervisor", context do
      children = Supervisor.which_children(context.top)
      registry = Process.whereis(context.workers)
      assert {context.workers, registry, :supervisor, [GenRegistry]} in children
      assert %{supervisors: 2, workers: 1} = Supervisor.count_children(context.top)
    end

    test "finds the ancestors of every worker in the tree", context do
      {:dictionary, dictionary} = Process.info(context.worker, :dictionary)

      assert context.top in dictionary[:"$ancestors"] or
               context.workers in dictionary[:"$ancestors"]
    end

    # As `release_handler` does it.
    defp walk(supervisor) do
      for {id, pid, type, modules} <- :supervisor.which_children(supervisor),
          found <- [{id, pid, modules} | if(type == :supervisor, do: walk_module(pid), else: [])],
          do: found
    end

    defp walk_module(pid) do
      assert is_atom(:supervisor.get_callback_module(pid))
      walk(pid)
    end
  end

  test "a registry can be suspended, have its code changed, and be resumed", context do
    {name, registry} = registry(context, ExampleWorker)
    {:ok, pid} = GenRegistry.start(name, :id)
    :ok = :sys.suspend(registry)
    assert :ok = :sys.change_code(registry, GenRegistry.Server, :undefined, :extra)
    :ok = :sys.resume(registry)
    assert GenRegistry.lookup_or_start(name, :id) == {:ok, pid}
    assert {:ok, _} = GenRegistry.lookup_or_start(name, :another)
    assert GenRegistry.stop(name, :id) == :ok
  end
end
