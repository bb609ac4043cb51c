defmodule GenRegistry.HandlersTest do
  @moduledoc """
  However slow handlers of events and of the log are, and whatever they call: starts, stops and shutdown
  go their way.
  """

  # While these tests run, all registries find `:telemetry`.
  use ExUnit.Case

  import StartSteps
  import Lifecycle

  @compile {:no_warn_undefined, :telemetry}
  @moduletag :capture_log

  @start [:gen_registry, :worker, :start, :start]
  @stop [:gen_registry, :worker, :start, :stop]
  @exception [:gen_registry, :worker, :start, :exception]
  @exit [:gen_registry, :worker, :exit]

  setup do
    TelemetryStandIn.load()
    on_exit(&TelemetryStandIn.unload/0)
  end

  # Handlers of this event wait for the test, for these ids.
  defp hold(event, ids) do
    :telemetry.attach_many(make_ref(), [event], &StartSteps.hold_event/4, {self(), ids})
  end

  # A handler of this event runs a function, for the id `:first`.
  defp in_handler(event, fun) do
    :telemetry.attach_many(make_ref(), [event], &StartSteps.call_function/4, fun)
  end

  # A worker that tells of its end, as it would save its state.
  defp saving(id) do
    test = self()

    fn ->
      Process.flag(:trap_exit, true)
      {:ok, &send(test, {:saved, id, &1})}
    end
  end

  defp refuse(registry, id) do
    assert GenRegistry.start(registry, id, [fn -> {:stop, :refused} end]) == {:error, :refused}
  end

  describe "a handler of a start's end that takes its time" do
    test "holds up no other start, nor a stop", context do
      registry = registry(context, worker_shutdown: 0)
      kept = start!(registry, :kept)
      hold(@stop, [:first])
      first = start!(registry, :first)
      handler = reached({:handler, :stop, :first})
      for n <- 1..20, do: assert({:ok, _} = GenRegistry.start(registry, n, [plain()]))
      for id <- [:kept, :first], do: assert(GenRegistry.stop(registry, id) == :ok)
      refute Enum.any?([kept, first], &Process.alive?/1)
      go(handler)
    end

    test "holds no place, and 64 of them do not", context do
      for {name, options, count} <-
            [one: [max_starting: 1], default: []]
            |> Enum.map(fn {name, options} -> {name, options, options[:max_starting] || 64} end) do
        registry = registry(%{context | test: name}, [worker_shutdown: 0] ++ options)
        ids = for n <- 1..count, do: {name, n}
        hold(@stop, ids)
        for id <- ids, do: assert({:ok, _} = GenRegistry.start(registry, id, [plain()]))
        handlers = for id <- ids, do: reached({:handler, :stop, id})
        assert handlers == Enum.uniq(handlers)
        assert %{starting: 0, queued: 0} = GenRegistry.info(registry)
        for n <- 1..10, do: assert({:ok, _} = GenRegistry.start(registry, n, [plain()]))
        Enum.each(handlers, &go/1)
      end
    end

    test "costs no worker its end at a shutdown, and holds that up for no time", context do
      # Longer than is waited for here: a handler that never returns keeps no node from stopping.
      registry = registry(context, worker_shutdown: 70_000)
      for n <- 1..100, do: start!(registry, n, saving(n))
      hold(@stop, [:first])
      start!(registry, :first)
      reached({:handler, :stop, :first})
      shutdown = ask(fn -> end_registry(registry) end)
      for n <- 1..100, do: assert_receive({:saved, ^n, :shutdown})
      assert answer(shutdown) == :ok
    end

    test "comes before the event of its worker's end", context do
      registry = registry(context, worker_shutdown: 0)
      TelemetryStandIn.listen([@exit])
      hold(@stop, [:first])
      first = start!(registry, :first)
      handler = reached({:handler, :stop, :first})
      kill(first)
      # That of another one has been told.
      kill(start!(registry, :other))
      assert_receive {:event, :exit, _, %{id: :other}}
      refute_received {:event, :exit, _, %{id: :first}}
      go(handler)
      assert_receive {:event, :exit, _, %{id: :first, pid: ^first, reason: :killed}}
    end
  end

  test "an end comes after the start in any case", context do
    registry = registry(context, worker_module: FunWorker)
    TelemetryStandIn.listen([@stop, @exit])

    for n <- 1..500 do
      assert {:ok, _} =
               GenRegistry.start(registry, n, [fn -> {:ok, spawn_link(fn -> :ok end)} end])
    end

    for n <- 1..500 do
      assert_receive {:event, event, _, %{id: ^n}}
      assert event == :stop
      assert_receive {:event, :exit, _, %{id: ^n, reason: :normal}}
    end
  end

  describe "a log handler that takes its time over a failed start" do
    setup context do
      registry = registry(context, worker_shutdown: 70_000)
      for n <- 1..100, do: start!(registry, n, saving(n))
      test = self()
      on_report(registry, fn -> wait(test, :logging) end)
      refuse(registry, :bad)
      {:ok, registry: registry, handler: reached(:logging)}
    end

    test "holds up no start, nor a stop", %{registry: registry, handler: handler} do
      for n <- 101..120, do: assert({:ok, _} = GenRegistry.start(registry, n, [plain()]))
      # The next failure waits for the log; its caller does not.
      refuse(registry, :bad)
      assert GenRegistry.stop(registry, 1) == :ok
      assert_receive {:saved, 1, :shutdown}
      go(handler)
      go(reached(:logging))
    end

    test "costs no worker its end at a shutdown", %{registry: registry, handler: handler} do
      shutdown = ask(fn -> end_registry(registry) end)
      for n <- 1..100, do: assert_receive({:saved, ^n, :shutdown})
      assert answer(shutdown) == :ok
      go(handler)
    end
  end

  test "a thousand ends with a slow handler hold up no start", context do
    registry = registry(context, worker_shutdown: 0)
    workers = for n <- 1..1_000, do: start!(registry, n)
    hold(@exit, Enum.to_list(1..1_000))
    Enum.each(workers, &kill/1)
    assert_receive {{:handler, :exit, _}, _}
    for n <- 1..100, do: assert({:ok, _} = GenRegistry.start(registry, {:new, n}, [plain()]))
    assert GenRegistry.stop(registry, {:new, 1}) == :ok
  end

  describe "handlers may call the registry:" do
    for {event, name} <- [{@start, "start"}, {@stop, "stop"}, {@exit, "exit"}] do
      test "of #{name}", context do
        registry = registry(context, max_starting: 1)
        test = self()

        in_handler(unquote(event), fn event ->
          call = fn -> GenRegistry.lookup_or_start(registry, :second, [plain()]) end
          send(test, {:called, event, attempt(call)})
        end)

        kill(start!(registry, :first))
        assert_receive {:called, unquote(String.to_atom(name)), {:ok, second}}
        assert GenRegistry.lookup(registry, :second) == {:ok, second}
      end
    end

    test "of an end, which starts the worker again, and stops another", context do
      registry = registry(context)
      start!(registry, :other)
      test = self()

      in_handler(@exit, fn :exit ->
        stop = attempt(fn -> GenRegistry.stop(registry, :other) end)
        start = attempt(fn -> GenRegistry.start(registry, :first, [plain()]) end)
        send(test, {:called, stop, start})
      end)

      kill(start!(registry, :first))
      assert_receive {:called, :ok, {:ok, _}}
    end

    test "of the log", context do
      registry = registry(context, max_starting: 1)
      test = self()

      on_report(registry, fn ->
        call = fn -> GenRegistry.lookup_or_start(registry, :errors, [plain()]) end
        send(test, {:called, attempt(call)})
      end)

      refuse(registry, :bad)
      assert_receive {:called, {:ok, _}}
    end
  end

  test "what a handler of a start's begin sets is there in that start, and in no other",
       context do
    registry = registry(context, worker_module: FunWorker)
    test = self()

    in_handler(@start, fn :start ->
      Process.put(:trace, :set)
      Logger.metadata(trace: :set)
    end)

    context_of = fn -> {Process.get(:trace), Logger.metadata()[:trace]} end
    in_handler(@stop, fn :stop -> send(test, {:at_stop, context_of.()}) end)

    for {id, expected} <- [first: {:set, :set}, next: {nil, nil}] do
      start_link = fn ->
        send(test, {:in_start, context_of.()})
        IdleWorker.start_link()
      end

      assert {:ok, _} = GenRegistry.start(registry, id, [start_link])
      assert_receive {:in_start, ^expected}
    end

    assert_receive {:at_stop, {:set, :set}}
  end

  test "starters run the events of the start's span, and nothing else", context do
    registry = registry(context)
    TelemetryStandIn.listen([@start, @stop, @exception, @exit])
    test = self()
    on_report(registry, fn -> send(test, {:logged_in, self()}) end)
    worker = start!(registry, :first)
    starter = starter(worker)
    assert_receive {:event, :start, _, %{in: ^starter}}
    assert_receive {:event, :stop, _, %{in: ^starter}}
    kill(worker)
    assert_receive {:event, :exit, _, %{in: events}}
    refuse(registry, :bad)
    assert_receive {:event, :start, _, %{in: _}}
    assert_receive {:event, :stop, _, %{in: starter_of_bad}}
    assert_receive {:logged_in, ^events}
    raising = fn -> raise "no" end
    assert {:error, _} = GenRegistry.start(registry, :bad, [:answer, raising])
    assert_receive {:event, :exception, _, %{in: _}}
    assert_receive {:logged_in, ^events}
    assert events not in [starter, starter_of_bad, Process.whereis(registry)]
  end
end
