defmodule GenRegistry.RegistryKilledTest do
  @moduledoc """
  A registry that is killed leaves no second worker behind for any id, whatever its workers do. A
  starter that is killed takes its own workers with it, and nothing else.

  The environment variable `KILLS` says how often the registry is killed in the storm.
  """

  # Storms leave others little of the machine.
  use ExUnit.Case

  @moduletag :capture_log

  import Lifecycle

  @kills String.to_integer(System.get_env("KILLS", "1000"))

  test "no id has two workers, though the registry is killed time and again", context do
    registry = registry(context, worker_module: StormWorker, worker_shutdown: 3)
    seed = ExUnit.configuration()[:seed]
    storm = Storm.begin(registry, 4, 20, seed, StormWorker.kinds() ++ [:stubborn])

    for _ <- 1..@kills do
      operations = Storm.operations(storm)

      until(fn ->
        :sys.get_state(registry, :infinity)
        Storm.operations(storm) >= operations + 10
      end)

      last = Process.whereis(registry)
      kill(last)
      restarted(registry, last)
    end

    assert Storm.finish(storm) == []
    assert Census.highest(storm.census) == 1
    assert Census.entered(storm.census) > @kills
  end

  describe "what a killed registry leaves" do
    test "has its time, then is gone before the next one serves", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id, held_at_end(:end))
      plain = start!(registry, :plain)
      server = Process.whereis(registry)
      kill(server)

      # Nobody reads what may be there no more.
      for read <- [
            &GenRegistry.lookup(&1, :id),
            &GenRegistry.count/1,
            &GenRegistry.sample/1,
            &GenRegistry.to_list/1,
            &GenRegistry.reduce(&1, 0, fn _, n -> n + 1 end),
            &GenRegistry.start(&1, :id, [plain()]),
            &GenRegistry.lookup_or_start(&1, :id, [plain()])
          ] do
        assert_raise ArgumentError, ~r/unknown registry/, fn -> read.(registry) end
      end

      assert reached({:end, :shutdown}) == worker
      down(plain)
      until(fn -> Process.whereis(registry) not in [nil, server] end)
      next = Process.whereis(registry)
      stop = ask(:stop, registry, :id)
      by_pid = ask(:start, next, :id, [held(:next)])
      assert_raise ArgumentError, fn -> GenRegistry.count(registry) end

      monitor = watch(worker)
      go(worker)
      assert down_of(monitor) == :shutdown
      assert answer(stop) == {:error, :not_found}
      reached(:next) |> go()
      assert {:ok, new} = answer(by_pid)
      assert GenRegistry.to_list(registry) == [id: new]
    end

    test "is killed when its time is over", context do
      registry = registry(context, worker_shutdown: 100)

      unlinked = fn ->
        [parent | _] = Process.get(:"$ancestors")
        Process.unlink(parent)
        stubborn().()
      end

      workers = [
        start!(registry, 1, stubborn()),
        start!(registry, 2, unlinked),
        elem(GenRegistry.start(registry, 3, [:without_link, stubborn()]), 1)
      ]

      monitors = Enum.map(workers, &watch/1)
      server = Process.whereis(registry)

      time =
        timed(fn ->
          kill(server)
          restarted(registry, server)
        end)

      for {pid, monitor} <- Enum.zip(workers, monitors),
          do: assert(ended(pid, monitor) == :killed)

      assert time >= 100
      assert :sys.get_state(registry).worker_shutdown == 100
      assert GenRegistry.count(registry) == 0
    end

    test "is asked to end though it has no link", context do
      registry = registry(context, worker_shutdown: :infinity)

      unlinked = fn init ->
        fn ->
          [parent | _] = Process.get(:"$ancestors")
          Process.unlink(parent)
          init.()
        end
      end

      plain = start!(registry, :plain, unlinked.(plain()))
      {:ok, without_link} = GenRegistry.start(registry, :without, [:without_link, plain()])
      trapping = start!(registry, :trapping, unlinked.(held_at_end(:end)))
      monitors = Enum.map([plain, without_link, trapping], &watch/1)
      server = Process.whereis(registry)
      kill(server)
      reached({:end, :shutdown}) |> go()
      for monitor <- monitors, do: assert(down_of(monitor) == :shutdown)
      restarted(registry, server)
      assert GenRegistry.count(registry) == 0
    end

    test "may be a start that hangs, and is killed too", context do
      registry = registry(context, worker_shutdown: 100)
      test = self()

      hanging = fn ->
        Process.flag(:trap_exit, true)
        send(test, {:init, self()})
        hang()
      end

      asker = ask(:start, registry, :id, [hanging])
      without_link = ask(:start, registry, :other, [:without_link, hanging])
      inits = for _ <- 1..2, do: reached(:init)
      monitors = Enum.map(inits, &watch/1)
      server = Process.whereis(registry)
      kill(server)
      assert {:exit, _} = answer(asker)
      assert {:exit, _} = answer(without_link)
      restarted(registry, server)
      for {pid, monitor} <- Enum.zip(inits, monitors), do: assert(ended(pid, monitor) == :killed)
    end

    test "may be a start that ends, which is ended", context do
      registry = registry(context, worker_shutdown: :infinity)
      asker = ask(:start, registry, :id, [held(:init)])
      init = reached(:init)
      monitor = watch(init)
      server = Process.whereis(registry)
      kill(server)
      assert {:exit, _} = answer(asker)
      go(init)
      assert down_of(monitor) == :shutdown
      restarted(registry, server)
      assert GenRegistry.count(registry) == 0
    end

    test "may be what a killed starter had begun", context do
      registry = registry(context, worker_shutdown: 100)
      server = Process.whereis(registry)
      asker = ask(:start, registry, :id, [:without_link, held(:init)])
      init = reached(:init)

      # The server does not hear of it any more.
      :sys.suspend(server)
      kill(starter(init))
      kill(server)
      assert {:exit, _} = answer(asker)
      restarted(registry, server)
      refute Process.alive?(init)
    end

    # While one waits for it, that one is killed too. What it had begun must not reach the next one.
    test "is killed by the one that waited first, and the next one is spared", context do
      # To find what a starter had begun, all processes are looked at: so many take a while.
      idle = for _ <- 1..50_000, do: spawn(&hang/0)
      registry = registry(context, worker_shutdown: 100)

      held = held(:init)

      init = fn ->
        {:parent, parent} = Process.info(self(), :parent)
        Process.unlink(parent)
        held.()
      end

      for n <- 1..5 do
        {begun, helper, second} = killed_while_it_waits(registry, n, init)
        restarted(registry, second)
        refute Process.alive?(begun)
        third = Process.whereis(registry)
        worker = start!(registry, n)
        down(helper)
        assert Process.whereis(registry) == third
        assert GenRegistry.lookup(registry, n) == {:ok, worker}
        assert Process.alive?(worker)
      end

      Enum.each(idle, &Process.exit(&1, :kill))
    end

    # Kills a registry in a start, and the next one while its helper waits for what was begun.
    # Should it have waited already, on a busy machine, once more.
    defp killed_while_it_waits(registry, id, init) do
      first = Process.whereis(registry)
      ask(:start, registry, id, [init])
      begun = reached(:init)
      starter = starter(begun)
      sweeper = sweeper(starter)

      kill(first)
      until(fn -> Process.whereis(registry) not in [nil, first] end)
      second = Process.whereis(registry)

      case watcher_beside(starter, sweeper) do
        nil ->
          restarted(registry, first)
          killed_while_it_waits(registry, id, init)

        helper ->
          kill(second)
          {begun, helper, second}
      end
    end

    # Who else watches a starter; `nil` if that is dead.
    defp watcher_beside(starter, sweeper) do
      with {:monitored_by, watchers} <- Process.info(starter, :monitored_by) do
        Enum.find(watchers, &(is_pid(&1) and &1 != sweeper)) || watcher_beside(starter, sweeper)
      end
    end

    # It knows them all the same.
    test "is known to the one that follows one that was killed before it served", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id, held_at_end(:end))

      last =
        for _ <- 1..3, reduce: Process.whereis(registry) do
          last ->
            kill(last)
            until(fn -> Process.whereis(registry) not in [nil, last] end)
            Process.whereis(registry)
        end

      assert reached({:end, :shutdown}) == worker
      assert Process.alive?(worker)
      assert_raise ArgumentError, fn -> GenRegistry.count(registry) end
      go(worker)
      down(worker)
      until(fn -> is_integer(attempt(fn -> GenRegistry.count(registry) end)) end)
      assert Process.whereis(registry) == last
    end
  end

  describe "a starter that is killed" do
    # Workers of two starters, and those.
    defp two_starters(context, opts \\ []) do
      registry = registry(context, opts)
      askers = for id <- [1, 2], do: ask(:start, registry, id, [held({:init, id})])
      workers = for id <- [1, 2], do: reached({:init, id})
      Enum.each(workers, &go/1)
      for {asker, worker} <- Enum.zip(askers, workers), do: assert(answer(asker) == {:ok, worker})
      starters = Enum.map(workers, &starter/1)
      assert starters == Enum.uniq(starters)
      {registry, workers, starters}
    end

    test "takes its own workers with it, and the registry goes on", context do
      {registry, [first, second], [starter, _]} = two_starters(context)
      server = Process.whereis(registry)
      monitor = watch(first)
      kill(starter)
      assert down_of(monitor) == :killed
      assert GenRegistry.to_list(registry) == [{2, second}]
      assert LifecycleWorker.run(second, fn -> :alive end) == :alive
      assert {:ok, _} = GenRegistry.start(registry, 1, [plain()])
      for id <- 3..10, do: start!(registry, id)
      assert Process.whereis(registry) == server
    end

    test "is an error for its caller, and the next one's start is tried", context do
      registry = registry(context, max_starting: 1)
      first = ask(:start, registry, :id, [held(:first)])
      init = reached(:first)
      second = ask(:lookup_or_start, registry, :id, [plain()])
      queued = ask(:start, registry, :queued, [plain()])
      monitor = watch(init)
      kill(starter(init))
      assert answer(first) == {:error, {:starter_died, :killed}}
      assert down_of(monitor) == :killed
      assert {:ok, worker} = answer(second)
      assert {:ok, other} = answer(queued)
      assert Enum.sort(GenRegistry.to_list(registry)) == [id: worker, queued: other]
    end

    test "leaves nothing that it had begun, before the id is started afresh", context do
      registry = registry(context, worker_shutdown: 100)
      test = self()

      hanging = fn ->
        Process.flag(:trap_exit, true)
        wait(test, :init)
        hang()
      end

      afresh = fn old ->
        fn ->
          send(test, {:afresh, Process.alive?(old)})
          {:ok, nil}
        end
      end

      for args <- [[hanging], [:without_link, hanging]] do
        first = ask(:start, registry, :id, args)
        init = reached(:init)
        second = ask(:start, registry, :id, [afresh.(init)])
        stop = ask(:stop, registry, :id)
        monitor = watch(init)
        kill(starter(init))
        assert {:error, {:starter_died, :killed}} = answer(first)
        assert_receive {:afresh, old_alive?}
        refute old_alive?
        assert down_of(monitor) == :killed
        assert {:ok, _} = answer(second)
        assert answer(stop) == :ok
      end
    end

    # An id that takes long to register gives the time to kill the starter in between, mostly.
    test "when it had just registered a worker, leaves one for the id all the same", context do
      registry = registry(context, worker_shutdown: 20)
      census = Census.new(1)

      # It outlives its starter.
      init = fn ->
        Process.flag(:trap_exit, true)
        Census.enter(census, 1)
        {:ok, fn _reason -> hang() end}
      end

      for n <- 1..100 do
        id = {n, List.duplicate(0, 9_000)}
        askers = for _ <- 1..2, do: ask(:lookup_or_start, registry, id, [init])
        until(fn -> Census.alive(census) != [] end)
        [worker | _] = Census.alive(census)
        starter = starter(worker)
        until(fn -> GenRegistry.count(registry) > 0 end)
        kill(starter)

        for asker <- askers do
          case answer(asker) do
            {:ok, _} -> :ok
            {:error, reason} -> assert {:starter_died, :killed} = reason
          end
        end

        GenRegistry.stop(registry, id)
        assert Census.alive(census) == []
      end

      assert Census.highest(census) == 1
    end
  end
end
