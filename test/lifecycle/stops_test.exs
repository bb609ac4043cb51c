defmodule GenRegistry.StopsTest do
  @moduledoc """
  A stop takes the id out of sight at once, and answers when the worker is gone. Whatever is asked
  for the id meanwhile waits for that.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  test "a stop hides the id at once, sends :shutdown and answers when the worker is gone",
       context do
    registry = registry(context)
    worker = start!(registry, :id, held_at_end(:end))
    stop = ask(:stop, registry, :id)
    assert reached({:end, :shutdown}) == worker

    assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
    assert GenRegistry.count(registry) == 0
    assert GenRegistry.to_list(registry) == []
    assert_waits(stop, registry)

    monitor = watch(worker)
    go(worker)
    assert answer(stop) == :ok
    assert ended(worker, monitor) == :shutdown
    assert GenRegistry.stop(registry, :id) == {:error, :not_found}
  end

  test "one that does not trap exits ends by the signal", context do
    registry = registry(context)

    for args <- [[plain()], [:without_link, plain()], [unlinking()]] do
      assert {:ok, worker} = GenRegistry.start(registry, :id, args)
      monitor = watch(worker)
      assert GenRegistry.stop(registry, :id) == :ok
      assert ended(worker, monitor) == :shutdown
    end
  end

  defp unlinking(init \\ plain()) do
    fn ->
      [parent | _] = Process.get(:"$ancestors")
      Process.unlink(parent)
      init.()
    end
  end

  test "one that traps exits ends well although it unlinked itself", context do
    registry = registry(context)
    worker = start!(registry, :id, unlinking(held_at_end(:end)))
    stop = ask(:stop, registry, :id)
    assert reached({:end, :shutdown}) == worker
    go(worker)
    assert answer(stop) == :ok
  end

  test "one that is a supervisor ends its children", context do
    registry = registry(context)
    worker = {LifecycleWorker, held_at_end(:child)}

    start_link = fn -> Supervisor.start_link([worker], strategy: :one_for_one) end
    assert {:ok, supervisor} = GenRegistry.start(registry, :id, [:answer, start_link])
    stop = ask(:stop, registry, :id)
    reached({:child, :shutdown}) |> go()
    assert answer(stop) == :ok
    refute Process.alive?(supervisor)
  end

  describe ":worker_shutdown" do
    test "is the time after which the worker is killed", context do
      registry = registry(context, worker_shutdown: 100)
      worker = start!(registry, :id, held_at_end(:end))
      monitor = watch(worker)
      time = timed(fn -> assert GenRegistry.stop(registry, :id) == :ok end)
      assert reached({:end, :shutdown}) == worker
      assert ended(worker, monitor) == :killed
      assert time >= 100
      assert :sys.get_state(registry).worker_shutdown == 100
    end

    test ":infinity is no time", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id, held_at_end(:end))
      monitor = watch(worker)
      stop = ask(:stop, registry, :id)
      assert reached({:end, :shutdown}) == worker
      assert_waits(stop, registry)
      go(worker)
      assert answer(stop) == :ok
      assert ended(worker, monitor) == :shutdown
    end

    test ":brutal_kill asks no worker", context do
      registry = registry(context, worker_shutdown: :brutal_kill)
      worker = start!(registry, :id, held_at_end(:end))
      monitor = watch(worker)
      assert GenRegistry.stop(registry, :id) == :ok
      assert ended(worker, monitor) == :killed
      refute_received {{:end, _}, _}
    end

    test "is 5,000 by default", context do
      registry = registry(context)
      assert GenRegistry.info(registry).options[:worker_shutdown] == 5_000
    end

    test "is a time or :brutal_kill", context do
      for wrong <- [-1, 1.0, nil, "5000", :kill] do
        assert_raise ArgumentError, ~r/:worker_shutdown/, fn ->
          GenRegistry.start_link(LifecycleWorker, name: context.test, worker_shutdown: wrong)
        end
      end
    end
  end

  test "stops of different ids overlap", context do
    registry = registry(context, worker_shutdown: :infinity)
    for id <- 1..10, do: start!(registry, id, held_at_end({:end, id}))
    stops = for id <- 1..10, do: ask(:stop, registry, id)
    ends = for id <- 1..10, do: reached({{:end, id}, :shutdown})
    for stop <- stops, do: assert_waits(stop, registry)
    Enum.each(ends, &go/1)
    for stop <- stops, do: assert(answer(stop) == :ok)
  end

  test "all who stop an id at once are answered when it is gone", context do
    registry = registry(context)
    worker = start!(registry, :id, held_at_end(:end))
    stops = for _ <- 1..100, do: ask(:stop, registry, :id)
    assert reached({:end, :shutdown}) == worker
    for stop <- stops, do: assert_waits(stop, registry)
    go(worker)
    for stop <- stops, do: assert(answer(stop) == :ok)
    refute Process.alive?(worker)
  end

  test "a start waits for the end of the one that is stopped", context do
    registry = registry(context, worker_shutdown: :infinity)
    old = start!(registry, :id, held_at_end(:end))
    stop = ask(:stop, registry, :id)
    assert reached({:end, :shutdown}) == old
    test = self()

    afresh = fn ->
      send(test, {:new, self(), Process.alive?(old)})
      {:ok, nil}
    end

    first = ask(:start, registry, :id, [afresh])
    second = ask(:lookup_or_start, registry, :id, [afresh])
    for asker <- [stop, first, second], do: assert_waits(asker, registry)
    go(old)
    assert_receive {:new, new, old_alive?}
    refute old_alive?
    assert answer(stop) == :ok
    assert answer(first) == {:ok, new}
    assert answer(second) == {:ok, new}
    refute_received {:new, _, _}
  end

  # What each is answered is what it would be if they had called one after the other.
  test "stops and starts of an id have their turns", context do
    registry = registry(context)
    first = ask(:start, registry, :id, [held(:first)])
    worker = reached(:first)
    monitor = watch(worker)

    second = ask(:lookup_or_start, registry, :id, [held(:second)])
    stop = ask(:stop, registry, :id)
    third = ask(:start, registry, :id, [held(:third)])
    other_stop = ask(:stop, registry, :id)
    last_stop = ask(:stop, registry, :id)

    for asker <- [first, second, stop, third, other_stop, last_stop] do
      assert_waits(asker, registry)
    end

    go(worker)
    assert answer(first) == {:ok, worker}
    assert answer(second) == {:ok, worker}
    assert answer(stop) == :ok
    assert ended(worker, monitor) == :shutdown

    worker = reached(:third)
    monitor = watch(worker)
    go(worker)
    assert answer(third) == {:ok, worker}
    assert answer(other_stop) == :ok
    assert answer(last_stop) == :ok
    assert ended(worker, monitor) == :shutdown
    assert GenRegistry.count(registry) == 0
    refute_received {:second, _}
  end

  test "a stop of one whose start fails finds nothing", context do
    registry = registry(context)
    first = ask(:start, registry, :id, [held(:first, {:stop, {:shutdown, :failed}})])
    init = reached(:first)
    stop = ask(:stop, registry, :id)
    go(init)
    assert answer(first) == {:error, {:shutdown, :failed}}
    assert answer(stop) == {:error, :not_found}
  end

  test "a stop goes on without its caller", context do
    registry = registry(context, worker_shutdown: :infinity)
    worker = start!(registry, :id, held_at_end(:end))
    assert {:timeout, _} = catch_exit(GenRegistry.stop(registry, :id, 0))
    assert reached({:end, :shutdown}) == worker
    assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
    stop = ask(:stop, registry, :id)
    assert_waits(stop, registry)
    go(worker)
    assert answer(stop) == :ok

    # Also if its turn had not come.
    first = ask(:start, registry, :id, [held(:first)])
    worker = reached(:first)
    dead = ask(:stop, registry, :id)
    kill(dead.pid)
    monitor = watch(worker)
    go(worker)
    assert answer(first) == {:ok, worker}
    assert down_of(monitor) == :shutdown
  end

  # It would wait for its own end.
  describe "a worker that stops itself" do
    test "has its answer at once", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id, held_at_end(:end))
      assert LifecycleWorker.run(worker, fn -> GenRegistry.stop(registry, :id) end) == :ok
      monitor = watch(worker)
      reached({:end, :shutdown}) |> go()
      assert down_of(monitor) == :shutdown
    end

    # The answer and the end may come in any order.
    test "ends, if it does not trap exits", context do
      registry = registry(context, worker_shutdown: :infinity)
      worker = start!(registry, :id)
      monitor = watch(worker)
      ask(fn -> LifecycleWorker.run(worker, fn -> GenRegistry.stop(registry, :id) end) end)
      assert down_of(monitor) == :shutdown
    end

    test "has it in its init, and ends after that", context do
      registry = registry(context, worker_shutdown: :infinity)
      test = self()

      init = fn ->
        wait(test, {:stopped, GenRegistry.stop(registry, :id)})
        {:ok, nil}
      end

      asker = ask(:start, registry, :id, [init])
      worker = reached({:stopped, :ok})
      monitor = watch(worker)
      go(worker)
      assert answer(asker) == {:ok, worker}
      assert down_of(monitor) == :shutdown
      assert GenRegistry.count(registry) == 0
    end

    test "has it in its end", context do
      registry = registry(context, worker_shutdown: :infinity)
      test = self()

      init = fn ->
        Process.flag(:trap_exit, true)
        {:ok, fn _reason -> send(test, {:stopped, GenRegistry.stop(registry, :id)}) end}
      end

      # Also when others wait for its end: it is the one that they wait for.
      start!(registry, :id, init)
      assert GenRegistry.stop(registry, :id) == :ok
      assert_receive {:stopped, :ok}
    end

    test "has it when another one stops it already", context do
      registry = registry(context, worker_shutdown: :infinity)
      test = self()

      worker = start!(registry, :id, held_at_end(:end))

      run =
        ask(fn ->
          LifecycleWorker.run(worker, fn ->
            wait(test, :inside)
            GenRegistry.stop(registry, :id)
          end)
        end)

      assert reached(:inside) == worker
      stop = ask(:stop, registry, :id)
      assert_waits(stop, registry)
      go(worker)
      assert answer(run) == :ok
      reached({:end, :shutdown}) |> go()
      assert answer(stop) == :ok
    end
  end
end
