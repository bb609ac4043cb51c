defmodule GenRegistry.InfoTest do
  @moduledoc """
  What `GenRegistry.info/1` tells of a registry, in quiet times and while much is in flight.
  """

  use ExUnit.Case, async: true

  import Lifecycle
  import StartSteps, only: [reductions: 3, request_all: 3]

  @moduletag :capture_log

  defp in_flight(registry) do
    Map.take(GenRegistry.info(registry), [:count, :starting, :stopping, :queued])
  end

  test "a registry that has done nothing yet", context do
    registry = registry(context, max_starting: 3, worker_shutdown: :brutal_kill)
    info = GenRegistry.info(registry)

    assert Enum.sort(Map.keys(info)) ==
             ~w(count ended ended_idle failed memory options queued reclaiming refused started starters)a ++
               ~w(starting stopping worker_module)a

    assert %{worker_module: LifecycleWorker, count: 0, starting: 0, stopping: 0} = info
    assert %{queued: 0, starters: 0, reclaiming: :ok} = info
    assert info.options[:max_starting] == 3
    assert info.options[:worker_shutdown] == :brutal_kill
    # Any server will do.
    assert GenRegistry.info(Process.whereis(registry)) == info
    assert GenRegistry.info({registry, node()}) == info
  end

  test "counts what has been, with telemetry and without", context do
    registry = registry(context, max_children: 4)

    counts = fn ->
      Map.take(GenRegistry.info(registry), [:started, :failed, :refused, :ended, :ended_idle])
    end

    for id <- 1..2, do: start!(registry, id)
    failing = fn -> {:stop, {:shutdown, :failed}} end
    for _ <- 1..3, do: {:error, _} = GenRegistry.start(registry, :fails, [failing])
    own_name = fn -> :yes = GenRegistry.register_name({registry, 3}, self()) end
    {:ok, _} = GenRegistry.start(registry, 3, in_init(own_name))
    # A process that takes its name itself has not been started.
    {:ok, _} = Agent.start(fn -> nil end, name: {:via, GenRegistry, {registry, :guest}})
    assert counts.() == %{started: 3, failed: 3, refused: 0, ended: 0, ended_idle: 0}

    start!(registry, 4)
    for id <- 5..6, do: {:error, :max_children} = GenRegistry.start(registry, id, [plain()])
    :ok = GenRegistry.stop(registry, 1)
    {:ok, idle} = GenRegistry.lookup(registry, 2)
    monitor = watch(idle)
    Process.exit(idle, {:shutdown, :idle})
    assert down_of(monitor) == {:shutdown, :idle}
    until(fn -> counts.().ended_idle == 1 end)
    assert counts.() == %{started: 4, failed: 3, refused: 2, ended: 2, ended_idle: 1}

    # A start whose starter is killed has failed.
    ask(:start, registry, 7, [held(:init)])
    kill(starter(reached(:init)))
    until(fn -> counts.().failed == 4 end)
  end

  test "options that were not given are told with their defaults", context do
    options = GenRegistry.info(registry(context)).options
    assert options[:max_starting] == 64
    assert options[:worker_shutdown] == 5_000
  end

  test "counts what is in flight, by what it does", context do
    registry = registry(context, max_starting: 2)
    start!(registry, :kept)
    start!(registry, :ending, held_at_end(:at_end))
    stop = ask(fn -> GenRegistry.stop(registry, :ending) end)
    assert_receive {{:at_end, :shutdown}, ending}
    assert in_flight(registry) == %{count: 1, starting: 0, stopping: 1, queued: 0}

    # One of them starts another, which does not wait for a place.
    test = self()

    nesting = fn ->
      wait(test, :nesting)
      GenRegistry.start(registry, :nested, [held(:nested, {:ok, nil}, test)], :infinity)
      {:ok, nil}
    end

    starts = [ask(:start, registry, :nesting, [nesting]), ask(:start, registry, 1, [held(1)])]
    nesting = reached(:nesting)
    first = reached(1)
    # Both places are taken.
    go(nesting)
    nested = reached(:nested)
    queued = for id <- 2..6, do: ask(:start, registry, id, [plain()])
    # Two wait for the same.
    queued = [ask(:lookup_or_start, registry, 6, [plain()]) | queued]
    assert in_flight(registry) == %{count: 1, starting: 3, stopping: 1, queued: 5}
    assert GenRegistry.info(registry).starters >= 3

    Enum.each([nested, first, ending], &go/1)
    assert answer(stop) == :ok
    for asker <- starts ++ queued, do: assert({:ok, _} = answer(asker))
    until(fn -> in_flight(registry) == %{count: 9, starting: 0, stopping: 0, queued: 0} end)
  end

  test "counts the ids for which a killed starter's remains are ended as stopping", context do
    registry = registry(context, worker_shutdown: 30_000)

    test = self()

    init = fn ->
      Process.flag(:trap_exit, true)
      send(test, {:init, self()})
      hang()
    end

    start = ask(:start, registry, :id, [init])
    worker = reached(:init)
    kill(starter(worker))
    assert {:error, {:starter_died, :killed}} = answer(start)
    assert %{starting: 0, stopping: 1, starters: 0} = GenRegistry.info(registry)
    kill(worker)
    until(fn -> GenRegistry.info(registry).stopping == 0 end)
  end

  test "memory grows with what the table holds, and shrinks", context do
    registry = registry(context, worker_module: IdleWorker)
    memory = fn -> GenRegistry.info(registry).memory end
    empty = memory.()
    for id <- 1..1_000, do: {:ok, _} = GenRegistry.start(registry, id)
    integers = memory.()
    # A slot has 16 bytes, and what is known of a process 24.
    assert integers - empty > 1_000 * 40
    # So long that none is remembered.
    long = String.duplicate("x", 20_000)
    for id <- 1..100, do: {:ok, _} = GenRegistry.start(registry, long <> <<id>>)
    assert memory.() - integers > 100 * 20_000

    all = memory.()
    for {_, pid} <- GenRegistry.to_list(registry), do: kill(pid)
    # What is given up is freed after a moment. Some short ids are remembered.
    until(fn -> all - memory.() > 100 * 15_000 end)
  end

  test "memory is that of the VM's copies too", context do
    registry = registry(context, worker_module: IdleWorker)

    for beside <- [make_ref(), 2 ** 80, <<1::1>>, Terms.closure(1)],
        list <- [Enum.to_list(1..12_000), List.duplicate(0.5, 12_000)] do
      before = GenRegistry.info(registry).memory
      id = [beside | list]
      {:ok, _} = GenRegistry.start(registry, id)
      assert GenRegistry.info(registry).memory - before >= 8 * :erts_debug.flat_size(id)
    end
  end

  test "a name stands for the registry that has it now", context do
    registry = registry(context)
    start!(registry, :id)
    end_registry(registry)
    assert_raise ArgumentError, fn -> GenRegistry.info(registry) end
    {:ok, _} = begin_registry(registry)
    assert GenRegistry.info(registry).count == 0
  end

  test "costs the same, however much is in flight, while more comes", context do
    cost = fn queued ->
      registry = registry(%{context | test: :"#{queued} queued"}, max_starting: 1)
      args = [fn -> hang() end]
      request_all(registry, 0..queued, args)
      assert %{starting: 1, queued: ^queued} = GenRegistry.info(registry)
      # What the requests left is not meant.
      server = Process.whereis(registry)
      :erlang.garbage_collect(server)

      cost =
        reductions(server, 20, fn n ->
          send(server, {:"$gen_call", {self(), make_ref()}, {:start, n, args}})
          # By then it has been looked at what waits.
          Process.send_after(self(), :then, 10)
          assert_receive :then
          GenRegistry.info(registry)
        end)

      kill(server)
      cost
    end

    # A collection of the heap may be in it. Looking at each that waits would cost ten times as much.
    assert cost.(50_000) < cost.(10) + 5_000
  end

  test "raises for what can be no registry, and where none runs" do
    for bad <- ["name", 1, [], {:name, "node"}, make_ref()] do
      error = assert_raise ArgumentError, fn -> GenRegistry.info(bad) end
      assert error.message =~ "registry"
      assert error.message =~ inspect(bad)
    end

    assert_raise ArgumentError, ~r/unknown registry/, fn -> GenRegistry.info(__MODULE__.None) end
  end
end
