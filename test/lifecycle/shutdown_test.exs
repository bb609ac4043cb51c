defmodule GenRegistry.ShutdownTest do
  @moduledoc """
  A registry that ends, ends all its workers: all together, in time, and nothing starts meanwhile.
  """

  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Lifecycle

  @moduletag :capture_log

  test "workers are told all together, and have their time to end well", context do
    registry = registry(context)
    workers = for id <- 1..500, do: start!(registry, id, held_at_end(:end))
    server = Process.whereis(registry)
    asker = ask(fn -> end_registry(registry) end)
    assert Enum.sort(for _ <- workers, do: reached({:end, :shutdown})) == Enum.sort(workers)

    [last | others] = workers
    monitors = Enum.map(workers, &watch/1)
    Enum.each(others, &go/1)
    for monitor <- tl(monitors), do: assert(down_of(monitor) == :shutdown)
    assert Process.alive?(server)
    %{ref: ref} = asker
    refute_received {^ref, _}

    go(last)
    assert answer(asker) == :ok
    assert down_of(hd(monitors)) == :shutdown
    refute Process.alive?(server)
  end

  # Excluded where all is slow, as under a sanitizer.
  @tag :timed
  test "10,000 workers that ignore it end within the deadline and two seconds", context do
    registry = registry(context, worker_shutdown: 500)
    init = stubborn()

    assert_in_time(2_500, fn ->
      begin_registry(registry)

      1..10_000
      |> Task.async_stream(&start!(registry, &1, init), max_concurrency: 20, timeout: :infinity)
      |> Stream.run()

      workers = for {_id, pid} <- GenRegistry.to_list(registry), do: pid
      assert length(workers) == 10_000
      time = timed(fn -> end_registry(registry) end)
      refute Enum.any?(workers, &Process.alive?/1)
      assert time >= 500
      time
    end)
  end

  test "workers of every kind end", context do
    registry = registry(context, worker_shutdown: 100)

    unlinked = fn init ->
      fn ->
        [parent | _] = Process.get(:"$ancestors")
        Process.unlink(parent)
        init.()
      end
    end

    supervisor = fn ->
      Supervisor.start_link([{LifecycleWorker, stubborn()}], strategy: :one_for_one)
    end

    for {id, args} <- [
          plain: [plain()],
          stubborn: [stubborn()],
          without_link: [:without_link, plain()],
          stubborn_without_link: [:without_link, stubborn()],
          unlinked: [unlinked.(plain())],
          stubborn_unlinked: [unlinked.(stubborn())],
          supervisor: [:answer, supervisor]
        ] do
      assert {:ok, _} = GenRegistry.start(registry, id, args)
    end

    # And one that is out of sight.
    stopped = start!(registry, :stopped, held_at_end(:end))
    stop = ask(:stop, registry, :stopped)
    assert reached({:end, :shutdown}) == stopped

    workers = [stopped | for({_id, pid} <- GenRegistry.to_list(registry), do: pid)]
    assert length(workers) == 8
    monitors = Enum.map(workers, &watch/1)
    end_registry(registry)

    for {pid, monitor} <- Enum.zip(workers, monitors) do
      assert ended(pid, monitor) in [:shutdown, :killed]
    end

    assert answer(stop) == :ok
  end

  test "those without a link are told too", context do
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
    workers = [plain, without_link, trapping]
    monitors = Enum.map(workers, &watch/1)
    asker = ask(fn -> end_registry(registry) end)
    reached({:end, :shutdown}) |> go()
    assert answer(asker) == :ok

    for {pid, monitor} <- Enum.zip(workers, monitors),
        do: assert(ended(pid, monitor) == :shutdown)
  end

  for {time, reason} <- [infinity: :shutdown, brutal_kill: :killed] do
    test ":worker_shutdown may be #{inspect(time)}", context do
      registry = registry(context, worker_shutdown: unquote(time))
      worker = start!(registry, :id, held_at_end(:end))
      monitor = watch(worker)
      asker = ask(fn -> end_registry(registry) end)
      # It may be that it is not even told.
      if unquote(time) == :infinity, do: reached({:end, :shutdown}) |> go()
      assert answer(asker) == :ok
      assert ended(worker, monitor) == unquote(reason)
    end
  end

  describe "nothing starts meanwhile:" do
    # A registry that is in its end, for as long as the worker that is answered is held.
    defp ending(context, during) do
      registry = registry(context, worker_shutdown: :infinity, max_starting: 2)
      last = start!(registry, :last, held_at_end(:end))
      during = during.(registry)
      asker = ask(fn -> end_registry(registry) end)
      assert reached({:end, :shutdown}) == last

      finish = fn ->
        go(last)
        answer(asker)
      end

      {registry, during, finish}
    end

    test "those who call are told so, and reads go on until the last has ended", context do
      {registry, other, finish} =
        ending(context, fn registry ->
          guest = spawn(&hang/0)
          assert GenRegistry.register_name({registry, :guest}, guest) == :yes
          guest
        end)

      server = Process.whereis(registry)
      {:ok, last} = GenRegistry.lookup(registry, :last)
      assert GenRegistry.count(registry) == 2
      assert GenRegistry.lookup_id(registry, last) == {:ok, :last}
      assert Enum.sort(GenRegistry.to_list(registry)) == [guest: other, last: last]

      for called <- [registry, server] do
        assert GenRegistry.start(called, :id, [plain()]) == {:error, :shutdown}
        assert GenRegistry.start(called, :last, [plain()]) == {:error, {:already_started, last}}
        assert GenServer.call(called, {:lookup_or_start, :id, [plain()]}) == {:error, :shutdown}
        assert GenRegistry.stop(called, :last) == :ok
        assert GenRegistry.stop(called, :id) == {:error, :not_found}
        assert GenRegistry.stop(called, :guest) == {:error, :not_supervised}
        assert %{count: 2, starting: 0} = GenRegistry.info(called)
        assert [{:last, ^last, :worker, _}] = Supervisor.which_children(called)
        assert %{active: 1} = Supervisor.count_children(called)
        assert GenServer.call(called, :hello) == {:error, :unknown_call}
      end

      assert GenRegistry.lookup_or_start(registry, :id, [plain()]) == {:error, :shutdown}
      assert GenRegistry.lookup_or_start(registry, :last, [plain()]) == {:ok, last}
      assert GenRegistry.register_name({registry, :id}, self()) == :no
      assert finish.() == :ok
      assert_raise ArgumentError, fn -> GenRegistry.lookup(registry, :last) end
    end

    test "who waits for it is killed, and another one waits", context do
      {registry, _, finish} = ending(context, fn _ -> nil end)
      server = Process.whereis(registry)

      for _ <- 1..3 do
        until(fn -> who_waits(server) != [] end)
        for pid <- who_waits(server), do: kill(pid)
        assert GenRegistry.start(registry, :id, [plain()]) == {:error, :shutdown}
      end

      assert Process.alive?(server)
      assert finish.() == :ok
    end

    defp who_waits(server) do
      {:monitors, monitors} = Process.info(server, :monitors)
      for {:process, pid} <- monitors, waits_for_workers?(pid), do: pid
    end

    defp waits_for_workers?(pid) do
      with {:current_stacktrace, stacktrace} <- Process.info(pid, :current_stacktrace),
           do: Enum.any?(stacktrace, &match?({GenRegistry.Shutdown, :await_until, _, _}, &1))
    end

    test "those who wait are answered before a worker has ended", context do
      {registry, {askers, inits}, finish} =
        ending(context, fn registry ->
          first = ask(:start, registry, 1, [held(:first)])
          second = ask(:start, registry, 2, [held(:second)])
          waiting = ask(:start, registry, 1, [held(:waiting)])
          queued = ask(:lookup_or_start, registry, 3, [held(:queued)])
          stop = ask(:stop, registry, 1)
          inits = [reached(:first), reached(:second)]
          for asker <- [waiting, queued, stop], do: assert_waits(asker, registry)
          {[first, second, waiting, queued, stop], inits}
        end)

      {starts, [stop]} = Enum.split(askers, 4)
      for start <- starts, do: assert(answer(start) == {:error, :shutdown})
      assert answer(stop) == :ok
      assert GenRegistry.count(registry) == 1

      monitors = Enum.map(inits, &watch/1)
      # Both ends of a start: in time, and too late.
      [first, second] = inits
      go(first)
      assert down_of(hd(monitors)) == :shutdown
      go(second)
      finish.()
      assert down_of(List.last(monitors)) == :shutdown

      refute_received {:waiting, _}
      refute_received {:queued, _}
    end

    test "a caller is answered once, whose request is the last that is read", context do
      registry = registry(context)
      # So that there is a starter, which has it then.
      start!(registry, :first)
      test = self()

      for ask <- [:start, :lookup_or_start, :replace] do
        server = Process.whereis(registry)
        :erlang.suspend_process(server)

        asker =
          spawn_link(fn ->
            told = apply(GenRegistry, ask, [registry, :id, [plain()], :infinity])
            send(test, {:told, told})
            hang()
          end)

        await_call(asker)
        ending = ask(fn -> end_registry(registry) end)

        StartSteps.eventually(fn -> told_to_end?(server) end)
        :erlang.resume_process(server)
        assert_receive {:told, {:error, :shutdown}}, 60_000
        assert answer(ending) == :ok
        assert Process.info(asker, :messages) == {:messages, []}
        {:ok, _} = begin_registry(registry)
        start!(registry, :first)
      end
    end

    defp told_to_end?(server) do
      {:messages, messages} = Process.info(server, :messages)
      Enum.any?(messages, &match?({:EXIT, _, :shutdown}, &1))
    end

    test "a caller is answered once, though its start goes on", context do
      registry = registry(context)
      test = self()
      args = [held(:init)]

      asker =
        spawn_link(fn ->
          send(test, {:told, GenRegistry.start(registry, :id, args, :infinity)})
          hang()
        end)

      in_start = reached(:init)
      ending = ask(fn -> end_registry(registry) end)
      assert_receive {:told, {:error, :shutdown}}, 60_000
      go(in_start)
      assert answer(ending) == :ok
      assert Process.info(asker, :messages) == {:messages, []}
    end

    test "a worker that waits for another one is told, and ends well", context do
      registry = registry(context, worker_shutdown: :infinity, max_starting: 1)
      test = self()

      init = fn ->
        Process.flag(:trap_exit, true)
        {:ok, fn reason -> send(test, {:ended_well, reason}) end}
      end

      worker = start!(registry, :id, init)
      busy = ask(:start, registry, :busy, [held(:busy)])
      in_start = reached(:busy)
      call = fn -> GenRegistry.lookup_or_start(registry, :other, [plain()], :infinity) end
      asker = ask(fn -> LifecycleWorker.run(worker, call) end)
      until(fn -> GenRegistry.info(registry).queued == 1 end)
      ending = ask(fn -> end_registry(registry) end)
      assert answer(asker) == {:error, :shutdown}
      assert_receive {:ended_well, :shutdown}
      go(in_start)
      assert answer(busy) == {:error, :shutdown}
      assert answer(ending) == :ok
    end

    test "a worker in its end may look for others, start and stop them", context do
      registry = registry(context, worker_shutdown: :infinity)
      test = self()

      init = fn ->
        Process.flag(:trap_exit, true)

        {:ok,
         fn _reason ->
           answers = [
             GenRegistry.lookup_or_start(registry, :late, [plain()]),
             GenRegistry.lookup(registry, :late),
             GenRegistry.stop(registry, :peer),
             GenRegistry.stop(registry, :id)
           ]

           send(test, {:answers, answers})
         end}
      end

      start!(registry, :id, init)
      peer = start!(registry, :peer, held_at_end(:peer))
      ending = ask(fn -> end_registry(registry) end)
      assert reached({:peer, :shutdown}) == peer
      assert_receive {:answers, [{:error, :shutdown}, {:error, :not_found}, :ok, :ok]}
      go(peer)
      assert answer(ending) == :ok
    end

    test "and that is in no log", context do
      log =
        capture_log(fn ->
          {_registry, {asker, starting}, finish} =
            ending(context, fn registry ->
              asker = ask(:start, registry, :cut_off, [held(:cut_off)])
              {asker, reached(:cut_off)}
            end)

          assert answer(asker) == {:error, :shutdown}
          monitor = watch(starting)
          go(starting)
          assert down_of(monitor) == :shutdown
          assert finish.() == :ok
        end)

      refute log =~ "cut_off"
    end

    test "what is started in a storm of callers is ended", context do
      registry = registry(context)
      started = :ets.new(:started, [:public, :duplicate_bag, write_concurrency: true])

      init = fn ->
        :ets.insert(started, {self()})
        {:ok, nil}
      end

      callers =
        for caller <- 1..8 do
          Task.async(fn -> start_until_it_ends(registry, init, caller, 1) end)
        end

      until(fn -> :ets.info(started, :size) > 1_000 end)
      end_registry(registry)
      pids = :ets.tab2list(started)
      refute Enum.any?(pids, fn {pid} -> Process.alive?(pid) end)
      Enum.each(callers, &Task.await(&1, :infinity))
      assert length(pids) == :ets.info(started, :size)
    end

    defp start_until_it_ends(registry, init, caller, n) do
      case attempt(fn -> GenRegistry.start(registry, {caller, n}, [init]) end) do
        {:ok, _pid} -> start_until_it_ends(registry, init, caller, n + 1)
        {kind, _} when kind in [:error, :exit] -> :ok
      end
    end
  end

  describe "by default a supervisor has no end of its time, which others have" do
    # A supervisor whose child waits in its end.
    defp slow_supervisor(where) do
      child = {LifecycleWorker, held_at_end(where)}
      child = Supervisor.child_spec(child, shutdown: :infinity)
      fn -> Supervisor.start_link([child], strategy: :one_for_one) end
    end

    test "when it is stopped", context do
      registry = registry(context)
      start! = fn id, args -> {id, GenRegistry.start(registry, id, args)} end
      {:slow, {:ok, slow}} = start!.(:slow, [:answer, slow_supervisor(:child)])
      {:stubborn, {:ok, stubborn}} = start!.(:stubborn, [stubborn()])
      stops = for id <- [:slow, :stubborn], do: ask(:stop, registry, id)
      child = reached({:child, :shutdown})
      monitor = watch(stubborn)
      assert_receive {:DOWN, ^monitor, _, _, :killed}, 60_000
      # Its timer came before.
      :sys.get_state(registry)
      assert Process.alive?(slow)
      go(child)
      assert Enum.map(stops, &answer/1) == [:ok, :ok]
    end

    test "when the registry ends", context do
      registry = registry(context)
      {:ok, slow} = GenRegistry.start(registry, :slow, [:answer, slow_supervisor(:child)])
      {:ok, stubborn} = GenRegistry.start(registry, :stubborn, [stubborn()])
      [monitor, of_stubborn] = Enum.map([slow, stubborn], &watch/1)
      ending = Task.async(fn -> end_registry(registry) end)
      child = reached({:child, :shutdown})
      assert_receive {:DOWN, ^of_stubborn, _, _, :killed}, 60_000
      assert Process.alive?(slow)
      assert Process.alive?(child)
      go(child)
      Task.await(ending, :infinity)
      assert ended(slow, monitor) == :shutdown
    end

    test "unless one is given, and info says what holds", context do
      registry = registry(context, worker_shutdown: 0)
      {:ok, slow} = GenRegistry.start(registry, :slow, [:answer, slow_supervisor(:killed)])
      assert GenRegistry.info(registry).options[:worker_shutdown] == 0
      monitor = watch(slow)
      assert GenRegistry.stop(registry, :slow) == :ok
      assert ended(slow, monitor) == :killed

      by_default = registry(%{context | test: :by_default})
      assert GenRegistry.info(by_default).options[:worker_shutdown] == 5_000
      {:ok, _} = GenRegistry.start(by_default, :slow, [:answer, slow_supervisor(:child)])
      assert GenRegistry.info(by_default).options[:worker_shutdown] == :infinity
      end_by_default = Task.async(fn -> end_registry(by_default) end)
      go(reached({:child, :shutdown}))
      Task.await(end_by_default, :infinity)
    end
  end
end
