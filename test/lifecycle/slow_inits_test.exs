defmodule GenRegistry.SlowInitsTest do
  @moduledoc """
  A worker that is slow to start, or never does, delays nobody but those who ask for it.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  test "while inits hang, everything else goes on", context do
    registry = registry(context)
    first = start!(registry, :first)

    slow =
      for n <- 1..50 do
        ask(:lookup_or_start, registry, {:slow, n}, [held({:slow, n})])
      end

    inits = for n <- 1..50, do: reached({:slow, n})

    assert GenRegistry.lookup(registry, :first) == {:ok, first}
    assert GenRegistry.lookup(registry, {:slow, 1}) == {:error, :not_found}
    assert GenRegistry.lookup_or_start(registry, :first) == {:ok, first}
    assert GenRegistry.count(registry) == 1
    assert GenRegistry.to_list(registry) == [first: first]
    assert Supervisor.count_children(registry).active == 1
    assert {:ok, second} = GenRegistry.start(registry, :second, [plain()])
    assert GenRegistry.stop(registry, :first) == :ok
    assert GenRegistry.stop(registry, :second) == :ok
    refute Process.alive?(second)

    Enum.each(inits, &go/1)
    assert Enum.map(slow, &answer/1) == Enum.map(inits, &{:ok, &1})
  end

  # A starter that has begun a start that hangs is nobody's way to its other workers.
  test "a worker is stopped although its starter is busy", context do
    registry = registry(context, worker_shutdown: :infinity)
    test = self()
    at_end = fn reason -> send(test, {:end, reason}) end

    trapping = fn ->
      Process.flag(:trap_exit, true)
      {:ok, at_end}
    end

    for {id, init} <- [trapping: trapping, plain: plain()] do
      worker = start!(registry, id, init)
      starter = starter(worker)
      slow = ask(:start, registry, :slow, [held(:slow)])
      init = reached(:slow)
      assert starter(init) == starter

      monitor = watch(worker)
      stop = ask(:stop, registry, id)
      assert down_of(monitor) == :shutdown
      assert answer(stop) == :ok

      go(init)
      assert answer(slow) == {:ok, init}
      assert GenRegistry.stop(registry, :slow) == :ok
    end

    assert_receive {:end, :shutdown}
  end

  describe ":max_starting" do
    # An init that tells how many of its kind there are now.
    defp counted(running, n, result) do
      test = self()

      fn ->
        send(test, {:begun, n, self(), :atomics.add_get(running, 1, 1)})

        receive do
          :go -> :atomics.sub(running, 1, 1)
        end

        result
      end
    end

    defp begun do
      assert_receive {:begun, n, pid, running}
      assert running <= 3
      {n, pid}
    end

    test "bounds how many run at once, and the others follow in order", context do
      registry = registry(context, max_starting: 3)
      running = :atomics.new(1, [])

      # A place is free again whether a start succeeds or fails.
      askers =
        for n <- 1..30 do
          result = if rem(n, 2) == 0, do: {:ok, nil}, else: {:stop, {:shutdown, n}}
          ask(:start, registry, n, [counted(running, n, result)])
        end

      first = for _ <- 1..3, do: begun()
      {numbers, pids} = Enum.unzip(first)
      assert Enum.sort(numbers) == [1, 2, 3]

      last =
        for n <- 4..30, reduce: pids do
          [pid | others] ->
            go(pid)
            assert {^n, next} = begun()
            others ++ [next]
        end

      Enum.each(last, &go/1)

      for {asker, n} <- Enum.with_index(askers, 1) do
        if rem(n, 2) == 0 do
          assert {:ok, _} = answer(asker)
        else
          assert answer(asker) == {:error, {:shutdown, n}}
        end
      end
    end

    test "is 64 by default", context do
      registry = registry(context, worker_shutdown: 0)
      running = :atomics.new(1, [])

      for n <- 1..70 do
        ask(:start, registry, n, [counted(running, n, {:ok, nil})])
      end

      begun =
        for _ <- 1..64 do
          assert_receive {:begun, n, pid, _running}
          {n, pid}
        end

      assert begun |> Enum.map(&elem(&1, 0)) |> Enum.sort() == Enum.to_list(1..64)
      :sys.get_state(registry)
      refute_received {:begun, _, _, _}

      for {n, {_, pid}} <- Enum.zip(65..70, begun) do
        go(pid)
        assert_receive {:begun, ^n, _pid, running}
        assert running <= 64
      end
    end

    test "is a positive integer", context do
      for wrong <- [0, -1, 1.0, nil, :infinity, "64"] do
        assert_raise ArgumentError, ~r/:max_starting/, fn ->
          GenRegistry.start_link(LifecycleWorker, name: context.test, max_starting: wrong)
        end
      end
    end
  end

  describe "a worker that in its own init asks for another one" do
    # An init that starts another worker, whose init starts another one, and so on.
    defp nesting(_registry, _id, 0), do: plain()

    defp nesting(registry, id, depth) do
      fn ->
        inner = nesting(registry, id, depth - 1)
        {:ok, _} = GenRegistry.lookup_or_start(registry, {id, depth - 1}, [inner], :infinity)
        {:ok, nil}
      end
    end

    # The only place is taken by a worker that runs `ask` in its init as soon as it is told to.
    defp with_the_only_place(context, ask) do
      registry = registry(context, max_starting: 1)
      test = self()

      init = fn ->
        wait(test, :outer)
        ask.(registry)
        {:ok, nil}
      end

      outer = ask(:start, registry, :outer, [init])
      {registry, outer, reached(:outer)}
    end

    test "has it, three levels deep, even if all places are taken by such ones", context do
      registry = registry(context, max_starting: 4)
      test = self()

      askers =
        for id <- 1..4 do
          nesting = nesting(registry, id, 3)

          init = fn ->
            wait(test, {:outer, id})
            nesting.()
          end

          ask(:lookup_or_start, registry, {id, 3}, [init])
        end

      inits = for id <- 1..4, do: reached({:outer, id})
      Enum.each(inits, &go/1)
      assert Enum.map(askers, &answer/1) == Enum.map(inits, &{:ok, &1})
      assert GenRegistry.count(registry) == 16
    end

    test "has it although another caller waits for it in the queue", context do
      {registry, outer, init} =
        with_the_only_place(context, &GenRegistry.lookup_or_start(&1, :inner, [plain()]))

      inner = ask(:start, registry, :inner, [plain()])
      assert_waits(inner, registry)
      go(init)
      assert {:ok, _} = answer(inner)
      assert {:ok, _} = answer(outer)
    end

    test "has it although a stop has to be waited for first", context do
      registry = registry(context, max_starting: 1)
      old = start!(registry, :inner, held_at_end(:end))
      test = self()

      asking = fn ->
        wait(test, :asking)
        {:ok, _} = GenRegistry.lookup_or_start(registry, :inner, [plain()], :infinity)
        {:ok, nil}
      end

      outer = ask(:start, registry, :outer, [asking])
      init = reached(:asking)
      stop = ask(:stop, registry, :inner)
      assert reached({:end, :shutdown}) == old
      go(init)
      await_call(init)
      :sys.get_state(registry)
      go(old)
      assert {:ok, ^init} = answer(outer)
      assert answer(stop) == :ok
    end

    test "has it from a process of its own", context do
      {_registry, outer, init} =
        with_the_only_place(context, fn registry ->
          ask = fn -> GenRegistry.lookup_or_start(registry, :inner, [plain()]) end
          {:ok, _} = Task.await(Task.async(ask), :infinity)
        end)

      go(init)
      assert answer(outer) == {:ok, init}
    end

    test "has it from its start_link", context do
      registry = registry(context, max_starting: 1)

      start_link = fn ->
        {:ok, _} = GenRegistry.lookup_or_start(registry, :inner, [plain()])
        LifecycleWorker.start_link(plain())
      end

      assert {:ok, _} = GenRegistry.start(registry, :outer, [:answer, start_link])
      assert GenRegistry.count(registry) == 2
    end

    test "may have one stopped that waits in the queue", context do
      {registry, outer, init} = with_the_only_place(context, &GenRegistry.stop(&1, :inner))
      inner = ask(:start, registry, :inner, [plain()])
      assert_waits(inner, registry)
      go(init)
      assert {:ok, stopped} = answer(inner)
      assert {:ok, _} = answer(outer)
      refute Process.alive?(stopped)
    end

    test "takes no place from others by that", context do
      held = held(:inner)

      {registry, outer, init} =
        with_the_only_place(context, &GenRegistry.lookup_or_start(&1, :inner, [held]))

      other = ask(:start, registry, :other, [held(:other)])
      go(init)
      inner = reached(:inner)
      go(inner)
      assert answer(outer) == {:ok, init}
      reached(:other) |> go()
      assert {:ok, _} = answer(other)

      # And gives none back that it did not take: there is one, not two.
      last = for n <- 1..2, do: ask(:start, registry, n, [held({:last, n})])
      first = reached({:last, 1})
      :sys.get_state(registry)
      refute_received {{:last, 2}, _}
      go(first)
      reached({:last, 2}) |> go()
      for asker <- last, do: assert({:ok, _} = answer(asker))
    end
  end

  # What starts that hang leave behind is looked for among all processes of the VM: once, and not for
  # each of them.
  test "however many inits hang, a registry ends as one", context do
    registry = registry(context, worker_shutdown: 0)
    all = {:erlang, :processes, 0}
    :erlang.trace_pattern(all, true, [])
    on_exit(fn -> :erlang.trace_pattern(all, false, []) end)

    starters =
      for n <- 1..8 do
        ask(:start, registry, n, [held(:init)])
        starter(reached(:init))
      end

    sweepers = Enum.uniq(Enum.map(starters, &sweeper/1))
    own = [Process.whereis(registry) | sweepers]
    for pid <- own, do: :erlang.trace(pid, true, [:call, :set_on_spawn])
    end_registry(registry)
    delivered = :erlang.trace_delivered(:all)
    assert_receive {:trace_delivered, :all, ^delivered}
    assert looks() in 1..2
  end

  defp looks do
    receive do
      {:trace, _, :call, {:erlang, :processes, []}} -> 1 + looks()
    after
      0 -> 0
    end
  end

  # In the parents' hands they would hang for ever.
  for {kind, flag} <- [plain: false, trapping: true] do
    # Excluded where all is slow, as under a sanitizer.
    @tag :timed
    test "a registry ends in time although an init hangs (#{kind})", context do
      registry = registry(context, worker_shutdown: 100)
      test = self()

      hanging = fn ->
        Process.flag(:trap_exit, unquote(flag))
        send(test, {:init, self()})
        hang()
      end

      start_link = fn ->
        send(test, {:start_link, self()})
        hang()
      end

      assert_in_time(2_100, fn ->
        begin_registry(registry)

        askers =
          for {id, args} <- [
                linked: [hanging],
                not_linked: [:without_link, hanging],
                starter: [:answer, start_link]
              ] do
            ask(:start, registry, id, args)
          end

        pids = [reached(:init), reached(:init), reached(:start_link)]
        time = timed(fn -> end_registry(registry) end)
        refute Enum.any?(pids, &Process.alive?/1)
        for asker <- askers, do: assert(answer(asker) == {:error, :shutdown})
        time
      end)
    end
  end
end
