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
end
