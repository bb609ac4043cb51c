defmodule GenRegistry.TelemetryTest do
  @moduledoc """
  Events, as a handler sees them; and that there are none where there is no `:telemetry`.

  While these tests run, all registries would find it: so they run alone.
  """

  use ExUnit.Case

  import Lifecycle

  @compile {:no_warn_undefined, :telemetry}
  @moduletag :capture_log

  @start [:gen_registry, :worker, :start, :start]
  @stop [:gen_registry, :worker, :start, :stop]
  @exception [:gen_registry, :worker, :start, :exception]
  @exit [:gen_registry, :worker, :exit]

  describe "with :telemetry" do
    setup do
      TelemetryStandIn.load()
      on_exit(&TelemetryStandIn.unload/0)
    end

    test "a start is a span", context do
      registry = registry(context)
      TelemetryStandIn.listen([@start, @stop, @exception])
      before = System.monotonic_time()
      pid = start!(registry, {:an, "id"})
      starter = starter(pid)

      assert_receive {:event, :start, begun, metadata}
      assert Enum.sort(Map.keys(begun)) == [:monotonic_time, :system_time]
      assert before <= begun.monotonic_time

      assert metadata ==
               %{registry: registry, worker_module: LifecycleWorker, id: {:an, "id"}, in: starter}

      assert_receive {:event, :stop, ended, metadata}
      assert Enum.sort(Map.keys(ended)) == [:duration, :monotonic_time, :queue_time]
      assert ended.duration > 0 and ended.queue_time >= 0
      assert begun.monotonic_time + ended.duration <= ended.monotonic_time
      assert ended.monotonic_time <= System.monotonic_time()

      assert metadata ==
               %{
                 registry: registry,
                 worker_module: LifecycleWorker,
                 id: {:an, "id"},
                 result: :ok,
                 pid: pid,
                 in: starter
               }

      # Whoever finds a process starts none.
      {:ok, ^pid} = GenRegistry.lookup(registry, {:an, "id"})
      {:ok, ^pid} = GenRegistry.lookup_or_start(registry, {:an, "id"})
      {:error, {:already_started, ^pid}} = GenRegistry.start(registry, {:an, "id"})
      start!(registry, :next)
      assert_receive {:event, :start, _, %{id: :next}}
      assert_receive {:event, :stop, _, %{id: :next}}
      refute_received {:event, _, _, _}
    end

    test "the time in a queue is apart from the duration", context do
      registry = registry(context, max_starting: 1)
      TelemetryStandIn.listen([@start, @stop])
      first = ask(:start, registry, 1, [held(1)])
      init = reached(1)
      inside = System.monotonic_time()
      assert_receive {:event, :start, _, %{id: 1}}
      second = ask(:start, registry, 2, [plain()])
      :sys.get_state(registry)
      received = System.monotonic_time()
      # It is not begun while it waits.
      refute_received {:event, :start, _, %{id: 2}}
      released = System.monotonic_time()
      go(init)
      assert {:ok, _} = answer(first)
      assert {:ok, _} = answer(second)

      assert_receive {:event, :stop, %{duration: duration}, %{id: 1}}
      assert duration >= released - inside
      assert_receive {:event, :stop, %{queue_time: queue_time, duration: duration}, %{id: 2}}
      assert queue_time >= released - received
      assert duration <= System.monotonic_time() - released
    end

    test "a failed start has its result", context do
      registry = registry(context, worker_module: FunWorker)
      TelemetryStandIn.listen([@start, @stop, @exception])

      for {answer, reason} <- [
            {{:error, :failed}, :failed},
            {:ignore, :ignore},
            {:other, {:bad_return_value, :other}}
          ] do
        assert GenRegistry.start(registry, :id, [fn -> answer end]) == {:error, reason}
        assert_receive {:event, :start, _, %{id: :id}}
        assert_receive {:event, :stop, %{duration: _, queue_time: _, monotonic_time: _}, metadata}
        assert %{id: :id, result: {:error, ^reason}, pid: nil} = metadata
      end

      refute_received {:event, _, _, _}
    end

    test "a start that raises, throws or exits is an exception", context do
      registry = registry(context, worker_module: FunWorker)
      TelemetryStandIn.listen([@start, @stop, @exception])

      for {fun, kind, reason} <- [
            {fn -> raise ArgumentError, "bad" end, :error, %ArgumentError{message: "bad"}},
            {fn -> :erlang.error(:badarith) end, :error, %ArithmeticError{}},
            {fn -> throw(:ball) end, :throw, :ball},
            {fn -> exit(:over) end, :exit, :over}
          ] do
        assert {:error, _} = GenRegistry.start(registry, :id, [fun])
        assert_receive {:event, :start, _, _}
        assert_receive {:event, :exception, measurements, metadata}
        assert Enum.sort(Map.keys(measurements)) == [:duration, :monotonic_time, :queue_time]
        assert %{registry: ^registry, worker_module: FunWorker, id: :id} = metadata
        assert %{kind: ^kind, reason: ^reason, stacktrace: [_ | _] = stacktrace} = metadata
        assert Exception.format(kind, reason, stacktrace) =~ "telemetry_test.exs"
      end

      refute_received {:event, _, _, _}
    end

    test "so is one whose starter is killed", context do
      registry = registry(context)
      TelemetryStandIn.listen([@start, @stop, @exception])
      start = ask(:start, registry, :id, [held(:init)])
      starter = starter(reached(:init))
      assert_receive {:event, :start, %{monotonic_time: begun}, %{in: ^starter}}
      kill(starter)
      assert answer(start) == {:error, {:starter_died, :killed}}

      assert_receive {:event, :exception, measurements, metadata}
      assert %{registry: ^registry, id: :id, kind: :exit, reason: :killed} = metadata
      assert metadata.stacktrace == []
      # Not in the server, which handlers would hold up.
      assert metadata.in not in [Process.whereis(registry), starter]
      assert measurements.queue_time >= 0

      assert measurements.duration <=
               measurements.monotonic_time - begun + measurements.queue_time

      refute_received {:event, _, _, _}

      # One that is idle when it is killed was starting nothing.
      worker = start!(registry, :id)
      kill(starter(worker))
      start!(registry, :other)
      assert_receive {:event, :stop, _, %{id: :other}}
      refute_received {:event, :exception, _, _}
    end

    test "a worker's end has its lifetime and its reason", context do
      registry = registry(context)
      TelemetryStandIn.listen([@exit])

      ends = [
        {:crashed, plain(), &Process.exit(&1, :crashed)},
        {:killed, plain(), &Process.exit(&1, :kill)},
        {:shutdown, plain(), fn _ -> GenRegistry.stop(registry, :id) end},
        {:unlinked, fn -> Process.unlink(hd(Process.get(:"$ancestors"))) && {:ok, nil} end,
         &Process.exit(&1, :unlinked)}
      ]

      for {reason, init, end_it} <- ends do
        before = System.monotonic_time()
        pid = start!(registry, :id, init)
        events = :sys.get_state(registry).events
        end_it.(pid)
        assert_receive {:event, :exit, measurements, metadata}
        assert Enum.sort(Map.keys(measurements)) == [:lifetime, :monotonic_time]
        assert measurements.lifetime in 0..(measurements.monotonic_time - before)

        assert metadata == %{
                 registry: registry,
                 worker_module: LifecycleWorker,
                 id: :id,
                 pid: pid,
                 reason: reason,
                 in: events
               }
      end

      # And once each: what the starters have heard since was of others.
      start!(registry, :id)
      refute_received {:event, _, _, _}
    end

    test "one that ends as soon as it is there has its reason too", context do
      registry = registry(context, worker_module: FunWorker)
      TelemetryStandIn.listen([@exit, @stop])

      for n <- 1..200 do
        start_link = fn ->
          test = self()

          pid =
            spawn_link(fn ->
              receive(do: (:go -> send(test, :went)))
              exit({:ended, n})
            end)

          send(pid, :go)
          receive(do: (:went -> {:ok, pid}))
        end

        # It may have ended before it was registered.
        assert {:ok, pid} = GenRegistry.start(registry, n, [start_link])
        assert_receive {:event, :stop, _, %{id: ^n, result: :ok, pid: ^pid}}
        assert_receive {:event, :exit, _, %{id: ^n, pid: ^pid, reason: {:ended, ^n}}}
      end

      refute_received {:event, _, _, _}
    end

    test "a monitor that came too late for the reason does not stand for it", context do
      registry = registry(context)
      TelemetryStandIn.listen([@exit])
      pid = start!(registry, :id)
      starter = starter(pid)
      %{workers: %{^pid => {:id, _, monitor}}} = :sys.get_state(starter)
      # As if it had died before the monitor was in place, and the news of the link came later.
      send(starter, {:DOWN, monitor, :process, pid, :noproc})
      Process.exit(pid, :crashed)
      assert_receive {:event, :exit, _, %{id: :id, reason: :crashed}}
      # A stranger knows no monitor.
      other = start!(registry, :id)
      send(starter(other), {:DOWN, make_ref(), :process, other, :noproc})
      :sys.get_state(starter(other))
      refute_received {:event, _, _, _}
    end

    test "starters keep nothing of workers that are gone", context do
      registry = registry(context)
      TelemetryStandIn.listen([@exit])
      linked = start!(registry, 1)
      {:ok, other} = GenRegistry.start(registry, 2, [:without_link, plain()])
      starter = starter(linked)

      for pid <- [linked, other] do
        kill(pid)
        assert_receive {:event, :exit, _, %{pid: ^pid, reason: :killed}}
      end

      assert %{workers: workers, events: events} = :sys.get_state(starter)
      assert workers == %{}
      assert Process.info(starter, :monitors) == {:monitors, [process: events]}
    end

    test "handlers do no harm", context do
      registry = registry(context)
      test = self()

      harm = fn event, _, %{id: id}, _ ->
        send(test, {:handled, List.last(event)})
        Process.flag(:trap_exit, false)
        if id == :bad, do: raise("a bad handler")
      end

      :telemetry.attach_many(:harm, [@start, @stop, @exit], harm, nil)
      kept = start!(registry, :kept)
      starter = starter(kept)
      assert_receive {:handled, :stop}
      worker = start!(registry, :worker)
      # Would end the starter, if that had not its flag again.
      Process.exit(worker, :crash)
      assert_receive {:handled, :exit}
      assert {:ok, _} = GenRegistry.start(registry, :bad, [plain()])
      # And with no module at all.
      TelemetryStandIn.unload()
      other = start!(registry, :other)
      Process.exit(other, :crash)
      :sys.get_state(starter)
      assert Process.alive?(kept)
      assert starter(start!(registry, :other)) == starter
    end

    test "a caller does not wait for the handlers of its start's end", context do
      registry = registry(context)
      test = self()
      :telemetry.attach_many(:slow, [@stop], fn _, _, _, _ -> wait(test, :handler) end, nil)
      # It has its answer while the handler has not gone on.
      assert {:ok, _} = GenRegistry.start(registry, :id, [plain()], :infinity)
      handler = reached(:handler)
      assert GenRegistry.info(registry).starting == 0
      go(handler)
    end
  end

  describe "documentation" do
    setup do
      TelemetryStandIn.load()
      on_exit(&TelemetryStandIn.unload/0)
      start_supervised!({GenRegistry, worker_module: ExampleWorker})
      :ok
    end

    doctest GenRegistry.Telemetry
  end

  describe "without :telemetry" do
    test "all works, and nothing is kept or measured", context do
      refute Code.ensure_loaded?(:telemetry)
      registry = registry(context)
      pid = start!(registry, :id)
      starter = starter(pid)
      assert :sys.get_state(starter).workers == nil
      assert :sys.get_state(registry).given == nil
      events = :sys.get_state(registry).events
      assert Process.info(starter, :monitors) == {:monitors, [process: events]}
      start = ask(:start, registry, :held, [held(:init)])
      kill(starter(reached(:init)))
      assert answer(start) == {:error, {:starter_died, :killed}}
    end

    test "nothing is emitted by a registry that had started before it came", context do
      registry = registry(context)
      TelemetryStandIn.load()
      on_exit(&TelemetryStandIn.unload/0)
      TelemetryStandIn.listen([@start, @stop, @exception, @exit])
      kill(start!(registry, :id))
      start!(registry, :id)
      later = registry(%{context | test: :later})
      start!(later, :id)
      assert_receive {:event, :start, _, %{registry: ^later}}
      assert_receive {:event, :stop, _, %{registry: ^later}}
      refute_received {:event, _, _, _}
    end
  end
end
