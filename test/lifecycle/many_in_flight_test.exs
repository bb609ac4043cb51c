defmodule GenRegistry.ManyInFlightTest do
  @moduledoc """
  However much is in flight, an event costs the registry's process what it costs when little is.

  That is told by its reductions, which the work of a process counts by, whatever else the machine does.
  """

  use ExUnit.Case

  import Lifecycle
  import StartSteps

  @moduletag :capture_log

  @many 20_000
  # How many times the cost of few is still the same cost: logarithms and collections of garbage are in
  # it. What walks over all that is in flight takes hundreds of times.
  @same 5
  # Of each event, in a round.
  @times 200
  # So few are none to speak of: of what the process does by itself now and then.
  @none 100

  # Cost of an event as `fun` makes it of numbers, with so many ids in flight that wait for a place, and
  # so many callers of one of them.
  defp cost(context, others, times, prepare, fun) do
    options = [max_starting: 4, worker_module: FunWorker, worker_shutdown: 0]
    registry = registry(%{context | test: {context.test, others} |> inspect()}, options)
    prepared = prepare.(registry)
    hang = fn -> hang() end
    for n <- 1..4, do: request_all(registry, [{:hanging, n}], [hang])
    until(fn -> GenRegistry.info(registry).starting == 4 end)
    request_all(registry, Stream.map(1..others, &{:queued, &1}), [hang])
    request_all(registry, Stream.map(1..others, fn _ -> {:queued, 1} end), [hang])
    assert GenRegistry.info(registry).queued >= others
    cost = reductions(Process.whereis(registry), times, &fun.(registry, prepared, &1))
    end_registry(registry)
    cost
  end

  defp assert_same(context, times \\ @times, prepare \\ fn _registry -> nil end, fun) do
    few = cost(context, 10, times, prepare, fun)
    many = cost(context, @many, times, prepare, fun)

    assert many < @same * max(few, @none),
           "#{round(few)} reductions with few, #{round(many)} with many"
  end

  # A request of the calling process, of which it takes no answer.
  defp request(registry, request) do
    send(registry, {:"$gen_call", {self(), make_ref()}, request})
    # It has been handled when another one is.
    {:ok, _} = :sys.log(registry, :get, :infinity)
  end

  defp idle, do: fn -> IdleWorker.start_link() end

  # As many workers as there are events, by their numbers.
  defp start_workers(registry) do
    for round <- 1..3, n <- 1..@times do
      {:ok, _} = GenRegistry.start(registry, {round, n}, [idle()])
    end
  end

  test "the arrival of a request that has to wait", context do
    assert_same(context, fn registry, nil, n -> request(registry, {:start, n, [idle()]}) end)
  end

  test "the arrival of a request for an id that others wait for", context do
    assert_same(context, fn registry, nil, _ ->
      request(registry, {:lookup_or_start, {:queued, 1}, [idle()]})
    end)
  end

  # After some milliseconds it is looked whether those who wait are workers in their init.
  test "the wait itself", context do
    assert_same(context, 20, fn registry, nil, n ->
      request(registry, {:start, n, [idle()]})
      Process.send_after(self(), :waited, 10)
      assert_receive :waited
      {:ok, _} = :sys.log(registry, :get, :infinity)
    end)
  end

  test "a caller that gives up", context do
    assert_same(context, fn registry, nil, n ->
      assert {:timeout, _} = catch_exit(GenRegistry.start(registry, n, [idle()], 1))
      {:ok, _} = :sys.log(registry, :get, :infinity)
    end)
  end

  test "a caller that gives up among many of one id", context do
    assert_same(context, fn registry, nil, _ ->
      assert {:timeout, _} = catch_exit(GenRegistry.start(registry, {:queued, 1}, [idle()], 1))
      {:ok, _} = :sys.log(registry, :get, :infinity)
    end)
  end

  test "callers of one id that give up at once", context do
    cost = fn callers ->
      name = %{context | test: inspect({context.test, callers})}
      registry = registry(name, worker_module: FunWorker, worker_shutdown: 0)
      request_all(registry, [:hot], [fn -> hang() end])
      server = Process.whereis(registry)
      call = fn -> GenRegistry.lookup_or_start(registry, :hot, [idle()], 2_000) end

      cost =
        reductions_of(server, fn ->
          askers = for _ <- 1..callers, do: spawn_monitor(fn -> attempt(call) end)
          for {pid, monitor} <- askers, do: assert_receive({:DOWN, ^monitor, _, ^pid, :normal})
        end)

      end_registry(registry)
      cost / callers
    end

    assert cost.(4_000) < @same * cost.(100)
  end

  defp reductions_of(server, fun) do
    {:ok, _} = :sys.log(server, :get, :infinity)
    {:reductions, before} = Process.info(server, :reductions)
    fun.()
    {:ok, _} = :sys.log(server, :get, :infinity)
    {:reductions, afterwards} = Process.info(server, :reductions)
    afterwards - before
  end

  test "the end of a worker", context do
    assert_same(context, @times, &start_workers/1, fn registry, _workers, n ->
      {:ok, pid} = GenRegistry.lookup(registry, n)
      kill(pid)
    end)
  end

  test "a stop", context do
    assert_same(context, @times, &start_workers/1, fn registry, _workers, n ->
      assert GenRegistry.stop(registry, n) == :ok
    end)
  end

  test "a registration by a process of its own", context do
    assert_same(context, fn registry, nil, n ->
      {pid, monitor} =
        spawn_monitor(fn -> :yes = GenRegistry.register_name({registry, n}, self()) end)

      assert_receive {:DOWN, ^monitor, _, ^pid, :normal}
    end)
  end

  # What a start that has its turn costs, its answer, and the turn of the next one: in the place of one
  # that goes on for ever.
  defp turns(registry, free) do
    test = self()

    start_link = fn ->
      wait(test, :turns)
      IdleWorker.start_link()
    end

    asker = ask(fn -> GenRegistry.start(registry, :turns, [start_link], :infinity) end)
    starter = reached(:turns)
    free.(starter)
    asker
  end

  test "starts that have their turn one after the other, and their answers", context do
    cost = fn count ->
      name = %{context | test: inspect({context.test, count})}
      registry = registry(name, max_starting: 1, worker_module: FunWorker, worker_shutdown: 0)
      server = Process.whereis(registry)

      turns =
        turns(registry, fn starter ->
          request_all(registry, 1..count, [idle()])
          go(starter)
        end)

      cost =
        reductions_of(server, fn ->
          assert {:ok, _} = answer(turns)
          # Read in the table, which costs the process nothing.
          eventually(fn -> GenRegistry.count(registry) == count + 1 end)
        end)

      end_registry(registry)
      cost / count
    end

    assert cost.(@many) < @same * cost.(500)
  end

  # A start that holds a place, and in it starts others as it is told to: these need none.
  defp nesting(registry) do
    test = self()

    nesting = fn ->
      send(test, {:nesting, self()})
      nest(registry, test)
    end

    ask(fn -> GenRegistry.start(registry, :nesting, [nesting], :infinity) end)
    reached(:nesting)
  end

  defp nest(registry, test) do
    receive do
      {:nest, n, start_link} ->
        send(
          test,
          {:nested, n, GenRegistry.start(registry, {:inner, n}, [start_link], :infinity)}
        )

        nest(registry, test)
    end
  end

  test "a start in the init of a worker, when all places are taken", context do
    assert_same(context, @times, &nesting/1, fn registry, starter, n ->
      send(starter, {:nest, n, idle()})
      assert_receive {:nested, ^n, {:ok, _}}
      {:ok, _} = :sys.log(registry, :get, :infinity)
    end)
  end

  test "the death of a starter in a start", context do
    test = self()

    killed = fn ->
      send(test, {:killed, self()})
      hang()
    end

    assert_same(context, 10, &nesting/1, fn registry, starter, n ->
      send(starter, {:nest, n, killed})
      kill(reached(:killed))
      assert_receive {:nested, ^n, {:error, {:starter_died, :killed}}}
      # And what it had begun is looked for.
      eventually(fn -> GenRegistry.info(registry).stopping == 0 end)
    end)
  end

  # All is found out where it ran, in a starter: by its links, which are few.
  test "the start of a worker that is dead already, among many", context do
    cost = fn siblings ->
      name = %{context | test: inspect({context.test, siblings})}
      registry = registry(name, worker_module: FunWorker, worker_shutdown: 0)
      for n <- 1..siblings, do: {:ok, _} = GenRegistry.start(registry, n, [idle()])
      test = self()

      dead = fn ->
        {:reductions, reductions} = Process.info(self(), :reductions)
        send(test, {:starter, self(), reductions})
        {pid, monitor} = spawn_monitor(fn -> :ok end)
        receive(do: ({:DOWN, ^monitor, _, _, _} -> {:ok, pid}))
      end

      costs =
        for n <- 1..20 do
          GenRegistry.start(registry, {:dead, n}, [dead])
          assert_receive {:starter, starter, before}
          # It has done all when it says so.
          until(fn -> Process.info(starter, :status) in [{:status, :waiting}, nil] end)

          case Process.info(starter, :reductions) do
            {:reductions, reductions} -> reductions - before
            nil -> :infinity
          end
        end

      Enum.min(costs)
    end

    assert cost.(10_000) < @same * cost.(10)
  end
end
