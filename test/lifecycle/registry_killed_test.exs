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

  alias GenRegistry.Table

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

      kill_registry(registry)
    end

    assert Storm.finish(storm) == []
    assert Census.highest(storm.census) == 1
    assert Census.entered(storm.census) > @kills
  end

  describe "what a killed registry leaves" do
    defp agent do
      {:ok, pid} = Agent.start(fn -> nil end)
      pid
    end

    test "holds up only its own ids, hidden but for lookup_id", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id, held_at_end(:end))
      plain = start!(registry, :plain)
      kill_registry(registry)
      assert reached({:end, :shutdown}) == worker
      down(plain)

      assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
      assert {GenRegistry.count(registry), GenRegistry.to_list(registry)} == {0, []}
      assert Supervisor.which_children(registry) == []
      assert GenRegistry.lookup_id(registry, worker) == {:ok, :id}
      assert %{count: 0, stopping: 1, starting: 0} = GenRegistry.info(registry)
      other = start!(registry, :other)

      stop = ask(:stop, registry, :id)
      start = ask(:start, registry, :id, [held(:next)])
      agent = agent()
      register = ask(fn -> GenRegistry.register_name({registry, :id}, agent) end)
      assert_waits(stop, registry)
      assert %{count: 1, stopping: 1, starting: 0} = GenRegistry.info(registry)
      for asker <- [start, register], do: assert_waits(asker, registry)
      go(worker)
      assert answer(stop) == :ok
      next = reached(:next)
      refute Process.alive?(worker)
      go(next)
      assert answer(start) == {:ok, next}
      assert answer(register) == :no
      assert Enum.sort(GenRegistry.to_list(registry)) == [id: next, other: other]
      until(fn -> GenRegistry.info(registry).stopping == 0 end)
    end

    test "is ended at once when somebody asks for its id", context do
      registry = registry(context)
      worker = start!(registry, :id, held_at_end(:end))
      sweeper = sweeper(starter(worker))
      server = Process.whereis(registry)
      # It would have them end in their turn.
      :sys.suspend(sweeper)
      kill(server)
      restarted(registry, server)
      assert LifecycleWorker.run(worker, fn -> :goes_on end) == :goes_on
      start = ask(:start, registry, :id, [plain()])
      assert reached({:end, :shutdown}) == worker
      assert_waits(start, registry)
      go(worker)
      assert {:ok, next} = answer(start)
      :sys.resume(sweeper)
      down(sweeper)
      assert GenRegistry.to_list(registry) == [id: next]
      assert Process.alive?(next)
    end

    test "keeps its id, and has no other", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id, held_at_end(:end))
      kill_registry(registry)
      assert reached({:end, :shutdown}) == worker
      assert GenRegistry.register_name({registry, :other}, worker) == :no
      assert GenRegistry.lookup_id(registry, worker) == {:ok, :id}
      assert GenRegistry.count(registry) == 0
      go(worker)
    end

    test "is counted once, though its start and the process are left", context do
      registry = registry(context, worker_shutdown: :infinity)
      init = held_twice()
      ask(:start, registry, :id, [init])
      begun = reached(:init)
      server = Process.whereis(registry)
      :sys.suspend(server)
      kill(starter(begun))
      kill(server)
      restarted(registry, server)
      until(fn -> GenRegistry.info(registry).stopping == 1 end)
      go(begun)
      assert {:end, :killed} = ended_of(begun)
      assert GenRegistry.info(registry).stopping == 1
      go(begun)
      until(fn -> GenRegistry.info(registry).stopping == 0 end)
    end

    test "has its time once, though its sweeper is killed too", context do
      registry = registry(context, worker_shutdown: 300)
      worker = start!(registry, :id, stubborn())
      monitor = watch(worker)
      kill_until_down(registry, monitor, System.monotonic_time(:millisecond) + 60_000)
    end

    # Faster than that time, so that it would never be over.
    defp kill_until_down(registry, monitor, patience) do
      server = Process.whereis(registry)

      sweepers =
        for pid <- Process.list(), StartSteps.module_of(pid) == GenRegistry.Sweeper, do: pid

      for pid <- [server | sweepers], do: Process.exit(pid, :kill)
      restarted(registry, server)

      receive do
        {:DOWN, ^monitor, _, _, reason} -> assert reason == :killed
      after
        100 ->
          assert System.monotonic_time(:millisecond) < patience
          kill_until_down(registry, monitor, patience)
      end
    end

    test "need not wait for its own end", context do
      registry = registry(context)
      [first, second] = for id <- 1..2, do: start!(registry, id)
      sweeper = sweeper(starter(first))
      server = Process.whereis(registry)
      :sys.suspend(sweeper)
      kill(server)
      restarted(registry, server)
      stopped = LifecycleWorker.run(first, fn -> GenRegistry.stop(registry, 1) end)
      assert stopped == :ok
      started = LifecycleWorker.run(second, fn -> GenRegistry.start(registry, 2, [plain()]) end)
      assert started == {:error, {:deadlock, [{registry, 2}]}}
      registered = fn -> GenRegistry.register_name({registry, 2}, self()) end
      assert LifecycleWorker.run(second, registered) == :no
      monitors = for pid <- [first, second], do: watch(pid)
      :sys.resume(sweeper)
      for monitor <- monitors, do: assert(down_of(monitor) == :shutdown)
    end

    test "has its place among the children", context do
      registry = registry(context, worker_shutdown: :infinity, max_children: 2)
      worker = start!(registry, 1, held_at_end(:end))
      start = ask(:start, registry, 2, [held(:init)])
      init = reached(:init)
      kill_registry(registry)
      assert {:exit, _} = answer(start)
      assert reached({:end, :shutdown}) == worker
      assert GenRegistry.start(registry, 3, [plain()]) == {:error, :max_children}
      # Those have their place when the old ones are gone.
      starts = for id <- 1..2, do: ask(:start, registry, id, [plain()])
      for start <- starts, do: assert_waits(start, registry)
      for pid <- [worker, init], do: go(pid)
      for start <- starts, do: assert({:ok, _} = answer(start))
      assert GenRegistry.start(registry, 3, [plain()]) == {:error, :max_children}
    end

    # Ids of which only the VM can make a hash, too.
    for {what, id} <- [{"", :id}, {", of any kind", quote(do: {&is_atom/1, <<1::3>>})}] do
      test "may be a worker that was being stopped#{what}", context do
        registry = registry(context, worker_shutdown: :infinity)
        id = unquote(id)
        worker = start!(registry, id, held_at_end(:end))
        ask(:stop, registry, id)
        assert reached({:end, :shutdown}) == worker

        # Whichever registry comes after it.
        for _ <- 1..3 do
          kill_registry(registry)
        end

        assert GenRegistry.lookup_id(registry, worker) == {:ok, id}
        start = ask(:start, registry, id, [plain()])
        assert_waits(start, registry)
        start!(registry, :other)
        go(worker)
        assert {:ok, _} = answer(start)
      end

      test "may be a worker that was refused#{what}", context do
        registry = registry(context, worker_shutdown: :infinity)
        id = unquote(id)
        test = self()

        refused = fn ->
          Process.flag(:trap_exit, true)
          wait(test, :init)
          {:ok, fn reason -> wait(test, {:end, reason}) end}
        end

        start = ask(:start, registry, id, [refused])
        init = reached(:init)
        # As if it had taken the id without asking.
        guest = agent()
        :ok = Table.register(:sys.get_state(registry).table, id, guest, guest)
        go(init)
        assert reached({:end, :shutdown}) == init
        server = Process.whereis(registry)
        assert answer(start) == {:error, {:already_started, guest}}
        kill(server)
        restarted(registry, server)
        assert GenRegistry.lookup(registry, id) == {:ok, guest}
        kill(guest)
        start = ask(:start, registry, id, [plain()])
        assert_waits(start, registry)
        go(init)
        assert {:ok, _} = answer(start)
      end

      test "may be a start, which goes on#{what}", context do
        registry = registry(context, worker_shutdown: :infinity)
        id = unquote(id)
        asker = ask(:start, registry, id, [held(:init)])
        init = reached(:init)
        monitor = watch(init)
        server = Process.whereis(registry)
        kill(server)
        assert {:exit, _} = answer(asker)
        restarted(registry, server)
        assert GenRegistry.info(registry).stopping == 1
        start = ask(:lookup_or_start, registry, id, [plain()])
        stop = ask(:stop, registry, id)
        assert_waits(start, registry)
        start!(registry, :other)
        go(init)
        assert down_of(monitor) == :shutdown
        assert {:ok, _} = answer(start)
        assert answer(stop) == :ok
      end
    end

    test "may be what a start leaves that fails after the kill", context do
      registry = registry(context, worker_shutdown: :infinity)
      test = self()

      # It has a process that ends slowly, and fails.
      start_link = fn ->
        pid =
          spawn_link(fn ->
            Process.flag(:trap_exit, true)
            send(test, {:left, self()})
            receive do: ({:EXIT, _, _} -> wait(test, :end))
          end)

        wait(test, :start_link)
        {:error, {:failed, pid}}
      end

      ask(:start, registry, :id, [:answer, start_link])
      left = reached(:left)
      starter = reached(:start_link)
      kill_registry(registry)
      start = ask(:start, registry, :id, [plain()])
      go(starter)
      assert reached(:end) == left
      # The starter does not wait for it any more.
      down(starter)
      assert_waits(start, registry)
      assert GenRegistry.info(registry).stopping == 1
      go(left)
      assert {:ok, _} = answer(start)
      refute Process.alive?(left)
    end

    test "begins nothing more", context do
      registry = registry(context, worker_shutdown: :infinity, max_starting: 1)
      start = ask(:start, registry, 1, [held(:init)])
      init = reached(:init)
      starter = starter(init)
      go(init)
      assert {:ok, worker} = answer(start)
      # The server gives it the next start, of which it has not heard.
      :erlang.suspend_process(starter)
      late = ask(:start, registry, 2, [held(:late)])
      :sys.get_state(registry)
      kill_registry(registry)
      assert {:exit, _} = answer(late)
      next = start!(registry, 2)
      monitor = watch(worker)
      :erlang.resume_process(starter)
      assert down_of(monitor) == :shutdown
      down(starter)
      refute_received {:late, _}
      assert GenRegistry.to_list(registry) == [{2, next}]
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
      time = timed(fn -> kill_and_await(registry, server, monitors) end)
      assert time >= 100
      assert GenRegistry.count(registry) == 0
    end

    defp kill_and_await(registry, server, monitors) do
      kill(server)
      for monitor <- monitors, do: assert(down_of(monitor) == :killed)
      restarted(registry, server)
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
      monitors = for _ <- 1..2, do: watch(reached(:init))
      server = Process.whereis(registry)
      kill(server)
      assert {:exit, _} = answer(asker)
      assert {:exit, _} = answer(without_link)
      restarted(registry, server)
      start = ask(:start, registry, :id, [plain()])
      for monitor <- monitors, do: assert(down_of(monitor) == :killed)
      assert {:ok, _} = answer(start)
    end

    test "may be what a killed starter had begun", context do
      registry = registry(context, worker_shutdown: :infinity)
      server = Process.whereis(registry)
      asker = ask(:start, registry, :id, [held_twice()])
      begun = reached(:init)

      # The server does not hear of it any more.
      :sys.suspend(server)
      kill(starter(begun))
      kill(server)
      assert {:exit, _} = answer(asker)
      restarted(registry, server)
      start = ask(:start, registry, :id, [plain()])
      assert_waits(start, registry)
      go(begun)
      assert reached({:end, :killed}) == begun
      assert_waits(start, registry)
      go(begun)
      assert {:ok, _} = answer(start)
      refute Process.alive?(begun)
    end

    defp ended_of(worker) do
      receive do: ({{:end, reason}, ^worker} -> {:end, reason})
    end

    # An init, and then an end, that wait.
    defp held_twice do
      test = self()
      trapping = held_at_end(:end)

      fn ->
        Process.flag(:trap_exit, true)
        wait(test, :init)
        trapping.()
      end
    end

    test "is ended though its starter and its sweeper are killed too", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :worker, held_at_end(:end))
      asker = ask(:start, registry, :id, [held_twice()])
      begun = reached(:init)
      server = Process.whereis(registry)
      starter = starter(begun)
      sweeper = sweeper(starter)
      :erlang.suspend_process(sweeper)
      :sys.suspend(server)
      for pid <- [starter, sweeper, server], do: kill(pid)
      assert {:exit, _} = answer(asker)
      restarted(registry, server)
      starts = for id <- [:id, :worker], do: ask(:start, registry, id, [plain()])
      for start <- starts, do: assert_waits(start, registry)
      assert {:end, _reason} = ended_of(worker)
      go(worker)
      go(begun)
      assert {:end, :killed} = ended_of(begun)
      go(begun)
      for start <- starts, do: assert({:ok, _} = answer(start))
    end

    test "has its time once, however often the next ones are killed", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id, held_at_end(:end))
      sweeper = sweeper(starter(worker))

      for n <- 1..5 do
        server = Process.whereis(registry)
        start!(registry, n)
        kill(server)
        restarted(registry, server)
      end

      assert reached({:end, :shutdown}) == worker
      # That is the one that says how long it has.
      assert Process.alive?(sweeper)
      assert GenRegistry.lookup_id(registry, worker) == {:ok, :id}
      start = ask(:start, registry, :id, [plain()])
      assert_waits(start, registry)
      go(worker)
      assert {:ok, _} = answer(start)
      down(sweeper)
    end

    test "is waited for when the next one ends in order", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id, held_at_end(:end))
      kill_registry(registry)
      next = Process.whereis(registry)
      other = start!(registry, :other, held_at_end(:other))
      ends = ask(fn -> end_registry(registry) end)
      assert reached({:end, :shutdown}) == worker
      assert reached({:other, :shutdown}) == other
      go(other)
      down(other)
      assert GenRegistry.stop(registry, :id) == :ok
      assert GenRegistry.start(registry, :id, [plain()]) == {:error, :shutdown}
      assert Process.alive?(next)
      go(worker)
      assert answer(ends) == :ok
      refute Process.alive?(worker)
    end

    test "is ended by one whose server has lost its name, too", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id, held_at_end(:end))
      server = Process.whereis(registry)
      monitor = watch(server)
      Process.unregister(registry)
      {:ok, other} = GenRegistry.start_link(LifecycleWorker, name: registry)
      assert down_of(monitor) == :killed
      assert reached({:end, :shutdown}) == worker
      start = ask(:start, other, :id, [plain()])
      assert_waits(start, other)
      go(worker)
      assert {:ok, _} = answer(start)
      stop_supervised!(registry)
    end

    test "leaves the next one its guests", context do
      registry = registry(context, worker_shutdown: :infinity)
      guests = for id <- 1..2_000, do: {{:guest, id}, agent()}
      for {id, pid} <- guests, do: :yes = GenRegistry.register_name({registry, id}, pid)
      worker = start!(registry, :id, held_at_end(:end))

      for _ <- 1..3 do
        kill_registry(registry)
        assert Enum.sort(GenRegistry.to_list(registry)) == Enum.sort(guests)
      end

      assert reached({:end, :shutdown}) == worker
      {gone, stay} = Enum.split(guests, 1_000)
      for {id, _pid} <- gone, do: :ok = GenRegistry.unregister_name({registry, id})
      assert Enum.sort(GenRegistry.to_list(registry)) == Enum.sort(stay)
      for {_id, pid} <- stay, do: kill(pid)
      assert GenRegistry.count(registry) == 0
      go(worker)
      # Nothing holds the tables of those that are gone.
      table = :sys.get_state(registry).table
      until(fn -> GenRegistry.Native.earlier(table) == [] end)
    end
  end

  describe "a starter that is killed" do
    test "leaves no worker that does not end in its time", context do
      registry = registry(context, worker_shutdown: 100)
      worker = start!(registry, :id, stubborn())
      monitor = watch(worker)
      kill(starter(worker))
      assert down_of(monitor) == :killed
      assert GenRegistry.count(registry) == 0
    end

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
