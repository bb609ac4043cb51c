defmodule GenRegistry.ShutdownTest do
  @moduledoc """
  A registry that ends, ends all its workers: all together, in time, and nothing starts meanwhile.
  """

  use ExUnit.Case, async: true

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

    assert {:exit, _} = answer(stop)
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

    test "those who call have an error", context do
      {registry, _, finish} = ending(context, fn _ -> nil end)
      message = ~r/unknown registry: .*#{inspect(registry)}/

      for function <- [:start, :lookup_or_start] do
        assert_raise ArgumentError, message, fn ->
          apply(GenRegistry, function, [registry, :id, [plain()]])
        end
      end

      assert_raise ArgumentError, message, fn -> GenRegistry.lookup(registry, :last) end
      assert_raise ArgumentError, message, fn -> GenRegistry.count(registry) end

      # These wait for the registry's end.
      pid = Process.whereis(registry)
      by_pid = ask(:start, pid, :id, [held(:by_pid)])
      stop = ask(:stop, registry, :last)
      finish.()
      assert {:exit, _} = answer(by_pid)
      assert {:exit, _} = answer(stop)
      refute_received {:by_pid, _}
    end

    test "those who wait have an exit", context do
      {_registry, {askers, inits}, finish} =
        ending(context, fn registry ->
          first = ask(:start, registry, 1, [held(:first)])
          second = ask(:start, registry, 2, [held(:second)])
          waiting = ask(:start, registry, 1, [held(:waiting)])
          queued = ask(:start, registry, 3, [held(:queued)])
          stop = ask(:stop, registry, 1)
          {[first, second, waiting, queued, stop], [reached(:first), reached(:second)]}
        end)

      monitors = Enum.map(inits, &watch/1)
      # Both ends of a start: in time, and too late.
      [first, second] = inits
      go(first)
      assert down_of(hd(monitors)) == :shutdown
      go(second)
      finish.()
      assert down_of(List.last(monitors)) == :shutdown

      for asker <- askers do
        assert {kind, _} = answer(asker)
        assert kind in [:exit, :error]
      end

      refute_received {:waiting, _}
      refute_received {:queued, _}
    end

    test "a worker in its end has an error", context do
      registry = registry(context)
      test = self()

      init = fn ->
        Process.flag(:trap_exit, true)

        {:ok,
         fn _reason ->
           ask = fn -> GenRegistry.lookup_or_start(registry, :late, [plain()]) end
           send(test, {:answer, attempt(ask)})
         end}
      end

      start!(registry, :id, init)
      end_registry(registry)
      assert_receive {:answer, {:error, %ArgumentError{}}}
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
end
