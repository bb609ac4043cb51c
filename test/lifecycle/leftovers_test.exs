defmodule GenRegistry.LeftoversTest do
  @moduledoc """
  What a start left behind is ended, and is gone before the next start of the id begins.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  # A worker whose init tells the test whether this process is still alive.
  defp next_to(left) do
    test = self()

    fn ->
      send(test, {:beside, Process.alive?(left)})
      {:ok, nil}
    end
  end

  # The sweepers that wait for a process's end.
  defp sweepers_of(pid) do
    {:monitored_by, watchers} = Process.info(pid, :monitored_by)
    for pid <- watchers, is_pid(pid), StartSteps.module_of(pid) == GenRegistry.Sweeper, do: pid
  end

  # Some ask before the server knows that the start has failed, some after that.
  for {when_, order} <- [before: "before its start is over", later: "when its start is over"] do
    test "what is left need not wait for its own end, #{order}", context do
      registry = registry(context, worker_shutdown: :infinity)
      test = self()

      start_link = fn ->
        starter = self()

        pid =
          spawn_link(fn ->
            Process.flag(:trap_exit, true)
            send(starter, :begun)
            receive do: ({:EXIT, _, _} -> :ok)
            if unquote(when_) == :later, do: wait(test, :end)
            send(test, {:stop, GenRegistry.stop(registry, :id)})
            send(test, {:name, GenRegistry.register_name({registry, :id}, self())})
            send(test, {:start, GenRegistry.start(registry, :id, [plain()], :infinity)})
            send(test, {:replace, GenRegistry.replace(registry, :id, [plain()], :infinity)})
          end)

        receive do: (:begun -> {:error, {:failed, pid}})
      end

      start = ask(:start, registry, :id, [:answer, start_link])

      if unquote(when_) == :later do
        left = reached(:end)
        assert {:error, {:failed, ^left}} = answer(start)
        :sys.get_state(registry)
        go(left)
      end

      deadlock = {:error, {:deadlock, [{registry, :id}]}}

      for {what, told} <- [stop: :ok, name: :no, start: deadlock, replace: deadlock],
          do: assert_receive({^what, ^told}, 5_000)

      start!(registry, :id)
    end
  end

  describe "an id whose starter a start has ended is free afterwards:" do
    for reason <- [:shutdown, {:shutdown, :why}, :killed, :noproc, :crashed] do
      test "by a helper that exits, #{inspect(reason)}", context do
        registry = registry(context, max_children: 2)
        worker = start!(registry, :worker)

        start_link = fn ->
          Process.flag(:trap_exit, false)
          spawn_link(fn -> exit(unquote(Macro.escape(reason))) end)
          hang()
        end

        for _ <- 1..3 do
          assert GenRegistry.start(registry, :id, [:answer, start_link]) ==
                   {:error, {:starter_died, unquote(Macro.escape(reason))}}
        end

        down(worker)
        start!(registry, :id)
        start!(registry, :other)
        assert GenRegistry.stop(registry, :id) == :ok
      end
    end

    test "by anybody, after its worker that is in its init", context do
      registry = registry(context)
      test = self()

      start_link = fn ->
        Process.flag(:trap_exit, false)

        LifecycleWorker.start_link(fn ->
          Process.flag(:trap_exit, true)
          wait(test, :init)
          {:ok, nil}
        end)
      end

      start = ask(:start, registry, :id, [:answer, start_link])
      worker = reached(:init)
      Process.exit(starter(worker), :shutdown)
      assert answer(start) == {:error, {:starter_died, :shutdown}}
      next = ask(:start, registry, :id, [next_to(worker)])
      until(fn -> sweepers_of(worker) != [] end)
      assert_waits(next, registry)
      go(worker)
      assert {:ok, _} = answer(next)
      assert_receive {:beside, false}
    end
  end

  test "a sweeper that is killed as it waits for what a killed starter left: the next one does",
       context do
    registry = registry(context)
    test = self()

    init = fn ->
      Process.flag(:trap_exit, true)
      wait(test, :init)
      {:ok, nil}
    end

    start = ask(:start, registry, :id, [init])
    worker = reached(:init)
    kill(starter(worker))
    assert answer(start) == {:error, {:starter_died, :killed}}
    until(fn -> sweepers_of(worker) != [] end)
    [sweeper] = sweepers_of(worker)
    kill(sweeper)
    next = ask(:start, registry, :id, [next_to(worker)])
    until(fn -> sweepers_of(worker) -- [sweeper] != [] or not Process.alive?(next.pid) end)
    assert_waits(next, registry)
    go(worker)
    assert {:ok, _} = answer(next)
    assert_receive {:beside, false}
  end

  # Has a start begin that leaves a process, linked to the starter, which waits in its end; returns that
  # process.
  defp leave_one(registry, id, ending) do
    test = self()
    at_end = held_at_end(:at_end)

    start_link = fn ->
      {:ok, left} = LifecycleWorker.start_link(at_end)
      send(test, {:left, left})
      ending.()
    end

    assert {:error, reason} = GenRegistry.start(registry, id, [:answer, start_link])
    assert reason != :max_children
    assert_receive {:left, left}
    assert reached({:at_end, :shutdown}) == left
    left
  end

  describe "a start waits for what a start of its id has left that failed by" do
    endings = [
      error: quote(do: {:error, :no}),
      ignore: quote(do: :ignore),
      bad_return: quote(do: :odd),
      raise: quote(do: raise("no")),
      throw: quote(do: throw(:no)),
      exit: quote(do: exit(:no))
    ]

    for {name, ending} <- endings do
      test "#{name}, which counts until then", context do
        registry = registry(context, max_children: 1, worker_shutdown: :infinity)
        left = leave_one(registry, :id, fn -> unquote(ending) end)
        next = ask(:start, registry, :id, [next_to(left)])
        assert_waits(next, registry)
        assert GenRegistry.start(registry, :other, [plain()]) == {:error, :max_children}
        assert %{stopping: 1, starting: 0} = GenRegistry.info(registry)
        go(left)
        assert {:ok, _} = answer(next)
        assert_receive {:beside, false}
        assert %{stopping: 0, starting: 0} = GenRegistry.info(registry)
      end
    end
  end

  test "a start waits for all that one has left, others do not, and a stop finds nothing",
       context do
    registry = registry(context, worker_shutdown: :infinity)

    test = self()

    at_end = fn ->
      Process.flag(:trap_exit, true)
      {:ok, fn _reason -> wait(test, :at_end) end}
    end

    start_link = fn ->
      {:ok, _} = LifecycleWorker.start_link(at_end)
      {:ok, _} = LifecycleWorker.start_link(at_end)
      {:error, :no}
    end

    assert {:error, :no} = GenRegistry.start(registry, :id, [:answer, start_link])
    [one, two] = for _ <- 1..2, do: reached(:at_end)
    stop = ask(:stop, registry, :id)
    next = ask(:start, registry, :id, [next_to(two)])
    monitor = watch(one)
    go(one)
    down_of(monitor)
    assert_waits(stop, registry)
    assert_waits(next, registry)
    start!(registry, :other)
    go(two)
    assert answer(stop) == {:error, :not_found}
    assert {:ok, _} = answer(next)
    assert_receive {:beside, false}
  end

  test "what a start has left, and does not end, is killed when its time is over", context do
    registry = registry(context, worker_shutdown: 50)
    stubborn = stubborn()
    test = self()

    start_link = fn ->
      {:ok, left} = LifecycleWorker.start_link(stubborn)
      send(test, {:left, left})
      {:error, :no}
    end

    assert {:error, :no} = GenRegistry.start(registry, :id, [:answer, start_link])
    assert_receive {:left, left}
    assert {:ok, _} = GenRegistry.start(registry, :id, [next_to(left)])
    assert_receive {:beside, false}
  end

  # A registry, a guest that took the id in a start of it, and the worker that was refused for it, which
  # is held in its end.
  defp refused(context) do
    registry = registry(context, worker_shutdown: :infinity)
    at_end = held_at_end(:at_end)

    init = fn ->
      {:ok, _} = Agent.start(fn -> nil end, name: {:via, GenRegistry, {registry, :id}})
      at_end.()
    end

    assert {:error, {:already_started, guest}} = GenRegistry.start(registry, :id, [init])
    refused = reached({:at_end, :shutdown})
    {registry, guest, refused}
  end

  test "a start waits for a worker that was refused, when the guest has gone", context do
    {registry, guest, refused} = refused(context)
    assert GenRegistry.start(registry, :id, [plain()]) == {:error, {:already_started, guest}}
    kill(guest)
    next = ask(:start, registry, :id, [next_to(refused)])
    assert_waits(next, registry)
    go(refused)
    assert {:ok, _} = answer(next)
    assert_receive {:beside, false}
  end

  test "a guest keeps its id when the worker that was refused for it is gone", context do
    {registry, guest, refused} = refused(context)
    stop = ask(:stop, registry, :id)
    go(refused)
    assert answer(stop) == {:error, :not_supervised}
    assert GenRegistry.lookup(registry, :id) == {:ok, guest}
    assert GenRegistry.stop(registry, :id) == {:error, :not_supervised}
  end

  for {id, what} <- [id: "its own id", other: "another id"] do
    test "what a failed start left with #{what} is killed when its time is over", context do
      registry = registry(context, worker_shutdown: 50)
      test = self()
      name = {:via, GenRegistry, {registry, unquote(id)}}

      init = fn ->
        Process.flag(:trap_exit, true)
        send(test, {:left, self()})
        {:ok, fn _reason -> hang() end}
      end

      start_link = fn ->
        {:ok, _} = GenServer.start_link(LifecycleWorker, init, name: name)
        {:error, :later}
      end

      assert GenRegistry.start(registry, :id, [:answer, start_link]) == {:error, :later}
      assert_receive {:left, left}
      down(left)
      start!(registry, :id)
      assert GenRegistry.stop(registry, :id) == :ok
      assert GenRegistry.count(registry) == 0
    end
  end
end
