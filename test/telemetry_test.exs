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
  @refused [:gen_registry, :worker, :refused]
  @registry_start [:gen_registry, :registry, :start]
  @registry_stop [:gen_registry, :registry, :stop]

  describe "with :telemetry" do
    setup do
      TelemetryStandIn.load()
      on_exit(&TelemetryStandIn.unload/0)
    end

    test "a start that is refused for want of room", context do
      registry = registry(context, max_children: 1)
      TelemetryStandIn.listen([@start, @refused])
      start!(registry, 1)
      assert_receive {:event, :start, _, %{id: 1}}
      assert {:error, :max_children} = GenRegistry.start(registry, 2, [plain()])
      assert_receive {:event, :refused, %{count: 1}, %{id: 2, reason: :max_children} = metadata}
      assert metadata.registry == registry and metadata.worker_module == LifecycleWorker
      refute_received {:event, :start, _, _}
    end

    # Started, less those whose end an event tells of, is what the registry's last event has.
    for how <- [:in_order, :killed] do
      test "a registry's start and end, #{how}", context do
        TelemetryStandIn.listen([@registry_start, @registry_stop, @stop, @exit])
        registry = registry(context, worker_shutdown: :infinity)
        assert_receive {:event, :start, times, %{registry: ^registry} = metadata}
        assert Enum.sort(Map.keys(times)) == [:monotonic_time, :system_time]
        assert metadata.worker_module == LifecycleWorker

        [first, second | _] = for id <- 1..5, do: start!(registry, id)
        held = start!(registry, :held, held_at_end(:end))
        {:error, _} = GenRegistry.start(registry, :fails, [fn -> {:stop, {:shutdown, :no}} end])
        :ok = GenRegistry.stop(registry, 1)
        assert_receive {:event, :exit, _, %{pid: ^first}}
        # With its starter goes who is its child.
        {:ok, other} = GenRegistry.start(registry, :without_link, [:without_link, plain()])
        kill(starter(second))
        for pid <- [second, other], do: down(pid)

        ends =
          case unquote(how) do
            :in_order -> ask(fn -> end_registry(registry) end)
            :killed -> kill(Process.whereis(registry))
          end

        assert {:end, _} = reached_end(held)
        refute_received {:event, :stop, %{ended: _}, _}
        go(held)

        assert_receive {:event, :stop, %{ended: ended, monotonic_time: _},
                        %{registry: ^registry}},
                       5_000

        assert ended == started() - exits() - 1
        if unquote(how) == :in_order, do: assert(answer(ends) == :ok)
      end
    end

    defp reached_end(worker) do
      receive do: ({{:end, reason}, ^worker} -> {:end, reason})
    end

    # As the events have told, but for the one exit that was received above.
    defp started do
      receive do
        {:event, :stop, _, %{result: :ok}} -> 1 + started()
      after
        0 -> 0
      end
    end

    defp exits do
      receive do
        {:event, :exit, _, _} -> 1 + exits()
      after
        0 -> 0
      end
    end

    test "a worker counts from the event of its start on, though a handler outlives the registry",
         context do
      registry = registry(context)
      TelemetryStandIn.listen([@registry_stop])
      test = self()

      :telemetry.attach_many(make_ref(), [@stop], fn _, _, _, _ -> wait(test, :handler) end, nil)
      start!(registry, :id)
      assert_receive {:handler, _}
      end_registry(registry)
      assert_receive {:event, :stop, %{ended: 1}, _}, 5_000
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

      assert %{telemetry_span_context: span} = metadata
      assert is_reference(span)

      same = %{
        registry: registry,
        worker_module: LifecycleWorker,
        id: {:an, "id"},
        caller: self(),
        telemetry_span_context: span,
        in: starter
      }

      assert metadata == same

      assert_receive {:event, :stop, ended, metadata}
      assert Enum.sort(Map.keys(ended)) == [:duration, :monotonic_time, :queue_time]
      assert ended.duration > 0 and ended.queue_time >= 0
      assert begun.monotonic_time + ended.duration <= ended.monotonic_time
      assert ended.monotonic_time <= System.monotonic_time()

      assert metadata == Map.merge(same, %{result: :ok, pid: pid})

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
        starter = starter(pid)
        # By then it watches those that are not linked to it.
        :sys.get_state(starter)
        end_it.(pid)
        assert_receive {:event, :exit, measurements, metadata}
        assert Enum.sort(Map.keys(measurements)) == [:lifetime, :monotonic_time]
        assert measurements.lifetime in 0..(measurements.monotonic_time - before)

        {told_in, metadata} = Map.pop!(metadata, :in)
        # Handlers would hold up whom they ran in.
        assert told_in not in [Process.whereis(registry), starter]

        assert metadata == %{
                 registry: registry,
                 worker_module: LifecycleWorker,
                 id: :id,
                 pid: pid,
                 reason: reason
               }
      end

      # And once each.
      kill(start!(registry, :last))
      assert_receive {:event, :exit, _, %{id: :last}}
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

        # Also if it had ended before it was registered.
        assert {:ok, pid} = GenRegistry.start(registry, n, [start_link])
        assert_receive {:event, :stop, _, %{id: ^n, result: :ok, pid: ^pid}}
        assert_receive {:event, :exit, _, %{id: ^n, pid: ^pid, reason: {:ended, ^n}}}
      end

      refute_received {:event, _, _, _}
    end

    test "a stranger's message that looks like news of an end is none", context do
      registry = registry(context)
      TelemetryStandIn.listen([@exit])
      worker = start!(registry, :id)

      for pid <- StartSteps.own_processes() -- [Process.whereis(registry)] do
        send(pid, {:DOWN, make_ref(), :process, worker, :noproc})
      end

      # They have taken it when they have told of another one.
      kill(start!(registry, :other))
      assert_receive {:event, :exit, _, %{id: :other}}
      refute_received {:event, _, _, _}
      Process.exit(worker, :crashed)
      assert_receive {:event, :exit, _, %{id: :id, reason: :crashed}}
    end

    test "nothing is kept of workers that are gone", context do
      registry = registry(context)
      TelemetryStandIn.listen([@exit])
      sizes = fn -> for pid <- StartSteps.own_processes(), do: StartSteps.size(pid) end
      kill(start!(registry, :first))
      assert_receive {:event, :exit, _, %{id: :first}}
      before = Enum.sum(sizes.())

      for n <- 1..1_000 do
        args = if rem(n, 2) == 0, do: [plain()], else: [:without_link, plain()]
        {:ok, pid} = GenRegistry.start(registry, {n, n}, args)
        :sys.get_state(starter(pid))
        kill(pid)
        assert_receive {:event, :exit, _, %{pid: ^pid, reason: :killed}}
      end

      assert Enum.sum(sizes.()) - before < 1_000
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
      down(other)
      assert {:ok, _} = GenRegistry.start(registry, :other, [plain()])
      assert Process.alive?(kept)
      assert Process.alive?(starter)
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
      # No id is kept, and no worker watched.
      {:monitors, monitors} = Process.info(starter(pid), :monitors)
      refute {:process, pid} in monitors
      sizes = fn -> for pid <- StartSteps.own_processes(), do: StartSteps.size(pid) end
      before = Enum.sum(sizes.())
      for n <- 1..100, do: start!(registry, Enum.to_list(n..1_000))
      assert Enum.sum(sizes.()) - before < 10_000
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
