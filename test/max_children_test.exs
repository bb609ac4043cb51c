defmodule GenRegistry.MaxChildrenTest do
  @moduledoc """
  `:max_children`: never more workers than that, and nobody is refused when there is room.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  @full {:error, :max_children}

  test "beyond it, a start is refused, of an id that has no process", context do
    registry = registry(context, max_children: 2)
    one = start!(registry, 1)
    start!(registry, 2)
    assert GenRegistry.start(registry, 3, [plain()]) == @full
    assert GenRegistry.lookup_or_start(registry, 3, [plain()]) == @full
    assert GenRegistry.lookup_or_start(Process.whereis(registry), 3, [plain()]) == @full
    assert GenRegistry.lookup_or_start(registry, 1, [plain()]) == {:ok, one}
    assert GenRegistry.start(registry, 1, [plain()]) == {:error, {:already_started, one}}
    assert GenRegistry.count(registry) == 2
    assert GenRegistry.info(registry).options[:max_children] == 2
    assert %{starting: 0, queued: 0, stopping: 0} = GenRegistry.info(registry)
  end

  test "zero is a bound, and there is none by default", context do
    registry = registry(context, max_children: 0)
    assert GenRegistry.start(registry, 1, [plain()]) == @full
    other = registry(%{context | test: :unbounded})
    assert GenRegistry.info(other).options[:max_children] == :infinity
    assert {:ok, _} = GenRegistry.start(other, 1, [plain()])
  end

  test "other values raise" do
    for bad <- [-1, 1.0, nil, "1", :many] do
      error =
        assert_raise ArgumentError, fn ->
          GenRegistry.start_link(ExampleWorker, name: __MODULE__.Bad, max_children: bad)
        end

      assert error.message =~ ":max_children"
      assert error.message =~ inspect(bad)
    end
  end

  test "whoever has seen a worker's :DOWN finds its room free", context do
    registry = registry(context, max_children: 1)

    for n <- 1..500 do
      pid = start!(registry, n)
      monitor = Process.monitor(pid)
      Process.exit(pid, :kill)
      down_of(monitor)
    end

    for n <- 1..500 do
      start!(registry, n)
      assert GenRegistry.start(registry, :other, [plain()]) == @full
      assert GenRegistry.stop(registry, n) == :ok
    end
  end

  test "whoever has the answer of a failed start finds its room free", context do
    registry = registry(context, max_children: 1)

    for n <- 1..500, init <- [fn -> {:stop, :no} end, fn -> :ignore end, fn -> raise "no" end] do
      assert {:error, reason} = GenRegistry.start(registry, n, [init])
      assert reason != :max_children
    end

    # Also where a process there was is refused.
    worker = start!(registry, 1)
    assert GenRegistry.start(registry, 2, [plain()]) == @full
    kill(worker)
    other = spawn_link(&hang/0)
    assert {:ok, ^other} = GenRegistry.start(registry, 2, [:answer, fn -> {:ok, other} end])
    assert GenRegistry.start(registry, 3, [:answer, fn -> {:ok, other} end]) == @full
  end

  test "those being started count, and those being stopped", context do
    registry = registry(context, max_children: 2)
    start = ask(:start, registry, 1, [held(:init)])
    init = reached(:init)
    start!(registry, 2, held_at_end(:at_end))
    assert GenRegistry.start(registry, 3, [plain()]) == @full
    stop = ask(fn -> GenRegistry.stop(registry, 2) end)
    assert_receive {{:at_end, :shutdown}, ending}
    assert GenRegistry.count(registry) == 0
    assert GenRegistry.start(registry, 3, [plain()]) == @full
    # Who wants the one that is being stopped waits for that, and has its room.
    again = ask(:start, registry, 2, [plain()])
    assert_waits(again, registry)
    go(ending)
    assert answer(stop) == :ok
    assert {:ok, _} = answer(again)
    go(init)
    assert {:ok, _} = answer(start)
    assert GenRegistry.count(registry) == 2
  end

  test "who waits for a start that fails has its place", context do
    registry = registry(context, max_children: 1)
    first = ask(:start, registry, :id, [held(:init, {:stop, :no})])
    init = reached(:init)
    second = ask(:lookup_or_start, registry, :id, [plain()])
    # Asked for later, but before the server hears of the failure.
    assert GenRegistry.start(registry, :other, [plain()]) == @full
    go(init)
    assert answer(first) == {:error, :no}
    assert {:ok, _} = answer(second)
  end

  test "those who wait for their turn take room when that comes, in order", context do
    registry = registry(context, max_children: 3, max_starting: 1)
    first = ask(:start, registry, 0, [held(:init, {:stop, :no})])
    init = reached(:init)
    asked = for id <- 1..6, do: ask(:start, registry, id, [plain()])
    assert GenRegistry.info(registry).queued == 6
    go(init)
    assert answer(first) == {:error, :no}
    assert [{:ok, _}, {:ok, _}, {:ok, _}, @full, @full, @full] = Enum.map(asked, &answer/1)
    assert %{queued: 0, starting: 0, count: 3} = GenRegistry.info(registry)
    # Those who were refused left nothing behind.
    assert %{stopping: 0} = GenRegistry.info(registry)
  end

  test "of hundreds at once, as many as there is room for", context do
    for max_starting <- [1, 4, 300] do
      options = [max_children: 10, max_starting: max_starting]
      registry = registry(%{context | test: :"at once, #{max_starting}"}, options)
      asks = for id <- 1..200, do: fn -> GenRegistry.start(registry, id, [plain()], :infinity) end
      answers = asks |> ask_all() |> Enum.map(&answer/1)
      assert Enum.count(answers, &match?({:ok, _}, &1)) == 10
      assert Enum.count(answers, &(&1 == @full)) == 190
      assert GenRegistry.count(registry) == 10
    end
  end

  test "a killed starter's start gives its room back", context do
    registry = registry(context, max_children: 1)

    for n <- 1..50 do
      start = ask(:start, registry, n, [held(:init)])
      init = reached(:init)
      kill(starter(init))
      assert answer(start) == {:error, {:starter_died, :killed}}
      # The caller knows of the failure, and not that all is cleared away: it is not refused.
      pid = start!(registry, {:next, n})
      assert GenRegistry.start(registry, :other, [plain()]) == @full
      # And its workers' when they are dead.
      monitor = watch(pid)
      kill(starter(pid))
      down_of(monitor)
    end
  end

  test "but not before what it left is dead", context do
    registry = registry(context, max_children: 1, worker_shutdown: 30_000)
    test = self()

    init = fn ->
      Process.flag(:trap_exit, true)
      send(test, {:init, self()})
      hang()
    end

    start = ask(:start, registry, 1, [init])
    orphan = reached(:init)
    kill(starter(orphan))
    assert answer(start) == {:error, {:starter_died, :killed}}
    next = ask(:start, registry, 2, [plain()])
    assert_waits(next, registry)
    # Its starter may be killed too.
    %{held: [{:start, held, 2, _}]} = :sys.get_state(registry)
    kill(held)
    assert answer(next) == {:error, {:starter_died, :killed}}
    until(fn -> GenRegistry.info(registry).stopping == 1 end)
    next = ask(:start, registry, 3, [plain()])
    assert_waits(next, registry)
    kill(orphan)
    assert {:ok, _} = answer(next)
    assert GenRegistry.start(registry, 4, [plain()]) == @full
  end

  test "a worker whose id a guest took has its room until it has ended", context do
    registry = registry(context, max_children: 1)
    slow = held_at_end(:at_end)

    for n <- 1..20 do
      init = fn ->
        {:ok, _} = Agent.start(fn -> nil end, name: {:via, GenRegistry, {registry, n}})
        slow.()
      end

      assert {:error, {:already_started, guest}} = GenRegistry.start(registry, n, [init])
      assert_receive {{:at_end, :shutdown}, ending}
      assert guest != ending
      assert GenRegistry.start(registry, :other, [plain()]) == @full
      assert GenRegistry.lookup_id(registry, ending) == {:error, :not_found}
      monitor = watch(ending)
      go(ending)
      down_of(monitor)
      start!(registry, :other)
      assert GenRegistry.start(registry, :one_more, [plain()]) == @full
      assert GenRegistry.stop(registry, :other) == :ok
    end
  end

  test "such a worker that does not end is killed when its time is over", context do
    for {time, asked?} <- [{100, true}, {:brutal_kill, false}] do
      options = [max_children: 1, worker_shutdown: time]
      registry = registry(%{context | test: :"killed after #{time}"}, options)
      test = self()

      init = fn ->
        {:ok, _} = Agent.start(fn -> nil end, name: {:via, GenRegistry, {registry, :id}})
        Process.flag(:trap_exit, true)
        wait(test, :init)

        {:ok,
         fn reason ->
           send(test, {:asked, reason})
           hang()
         end}
      end

      start = ask(:start, registry, :id, [init])
      worker = reached(:init)
      monitor = watch(worker)
      go(worker)
      assert {:error, {:already_started, guest}} = answer(start)
      assert guest != worker
      assert down_of(monitor) == :killed
      if asked?, do: assert_received({:asked, :shutdown}), else: refute_received({:asked, _})
      start!(registry, :other)
      assert GenRegistry.start(registry, :one_more, [plain()]) == @full
    end
  end

  test "an id whose worker is dead needs no room but that one's, however late the news",
       context do
    registry = registry(context, max_children: 1)

    while_undone(500_000, fn rows ->
      worker = start!(registry, :id)
      run(worker, fn -> own_large_table(rows) end)
      monitor = strike(worker)
      assert {:ok, next} = GenRegistry.start(registry, :id, [plain()])
      undone? = being_undone?(monitor)
      down_of_if(monitor, undone?)
      assert GenRegistry.start(registry, :other, [plain()]) == @full
      assert GenRegistry.stop(registry, :id) == :ok
      refute Process.alive?(next)
      undone?
    end)
  end

  defp run(worker, fun), do: LifecycleWorker.run(worker, fun)

  defp down_of_if(monitor, true), do: down_of(monitor)
  defp down_of_if(_monitor, false), do: :ok

  test "workers that start others need room for them", context do
    registry = registry(context, max_children: 2, max_starting: 1)
    test = self()

    nesting = fn ->
      first = GenRegistry.start(registry, 2, [plain()])
      send(test, {:nested, first, GenRegistry.start(registry, 3, [plain()])})
      {:ok, nil}
    end

    start!(registry, 1, nesting)
    assert_receive {:nested, {:ok, _}, @full}
  end

  test "a worker that is just ending does not take the place of the next one of its id",
       context do
    registry = registry(context, max_children: 1)

    for _ <- 1..1_000 do
      {:ok, pid} = GenRegistry.lookup_or_start(registry, :id, [plain()], :infinity)
      # The one who is told first is this process, or the table.
      monitor = watch(pid)
      Process.exit(pid, :kill)
      if :rand.uniform(2) == 1, do: down_of(monitor)
      assert {:ok, pid} = GenRegistry.replace(registry, :id, [plain()], :infinity)
      Process.exit(pid, :kill)
    end

    ends = fn -> exit({:shutdown, :idle}) end

    for _ <- 1..1_000 do
      pid = start_again(registry)
      monitor = watch(pid)
      GenServer.cast(pid, {:run, ends})
      down_of(monitor)
    end
  end

  defp start_again(registry) do
    assert {:ok, pid} = GenRegistry.lookup_or_start(registry, :id, [plain()], :infinity)
    pid
  end

  test "a restarted registry has all its room", context do
    registry = registry(context, max_children: 2)
    monitors = for id <- 1..2, do: registry |> start!(id) |> watch()
    kill_registry(registry)
    # They take it until then.
    Enum.each(monitors, &down_of/1)
    for id <- 3..4, do: start!(registry, id)
    assert GenRegistry.start(registry, 5, [plain()]) == @full
  end

  # Workers count themselves in and out: in, first thing in their init, and out by the deaths that
  # the test sees, which is later than they are. So what is counted is never less than there are.
  test "in a storm of starts, ends and killed starters there are never more", context do
    max = 8
    registry = registry(context, max_children: max, max_starting: 4, worker_shutdown: 50)
    living = :ets.new(:living, [:public])
    highest = :atomics.new(1, [])

    enter = fn result ->
      fn ->
        :ets.insert(living, {self()})
        alive = for {pid} <- :ets.tab2list(living), Process.alive?(pid), do: pid
        if length(alive) > :atomics.get(highest, 1), do: :atomics.put(highest, 1, length(alive))
        # It is dying from here on, but not dead.
        if result != {:ok, nil}, do: :ets.delete(living, self())
        result
      end
    end

    callers =
      for n <- 1..6 do
        Task.async(fn ->
          :rand.seed(:exsss, {ExUnit.configuration()[:seed], n, 0})

          for _ <- 1..1_500, reduce: 0 do
            refused ->
              id = :rand.uniform(40)

              case :rand.uniform(10) do
                n when n <= 5 ->
                  answer =
                    GenRegistry.lookup_or_start(registry, id, [enter.({:ok, nil})], :infinity)

                  if answer == @full, do: refused + 1, else: refused

                6 ->
                  GenRegistry.start(registry, id, [enter.({:stop, :no})], :infinity)
                  refused

                7 ->
                  GenRegistry.stop(registry, id)
                  refused

                8 ->
                  with {:ok, pid} <- GenRegistry.lookup(registry, id),
                       do: Process.exit(pid, :kill)

                  refused

                9 ->
                  GenRegistry.stop(registry, id)
                  refused

                10 ->
                  with 1 <- :rand.uniform(10),
                       {_, pid} <- GenRegistry.sample(registry),
                       {:parent, starter} <- Process.info(pid, :parent),
                       do: Process.exit(starter, :kill)

                  refused
              end
          end
        end)
      end

    refused = callers |> Task.await_many(:infinity) |> Enum.sum()
    assert refused > 0
    assert :atomics.get(highest, 1) <= max

    # Then all the room is there.
    until(fn -> match?(%{starting: 0, stopping: 0, queued: 0}, GenRegistry.info(registry)) end)
    for {_, pid} <- GenRegistry.to_list(registry), do: kill(pid)
    for id <- 1..max, do: start!(registry, {:after, id})
    assert GenRegistry.start(registry, :one_more, [plain()]) == @full
  end
end
