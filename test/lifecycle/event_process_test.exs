defmodule GenRegistry.EventProcessTest do
  @moduledoc """
  One process per registry makes reports, and the events of ends. It is nobody's parent, outlives its
  registry until it has told all, and may be killed.
  """

  # While these tests run, all registries find `:telemetry`.
  use ExUnit.Case

  import StartSteps
  import Lifecycle

  @compile {:no_warn_undefined, :telemetry}
  @moduletag :capture_log

  @exit [:gen_registry, :worker, :exit]

  setup do
    TelemetryStandIn.load()
    on_exit(&TelemetryStandIn.unload/0)
  end

  # Where the event of a worker's end was told; `nil` if it never is, as it is lost when the event process
  # is killed.
  defp told_in(registry) do
    id = make_ref()
    kill(start!(registry, id))

    receive do
      {:event, :exit, _, %{id: ^id, in: pid}} -> pid
    after
      1_000 -> nil
    end
  end

  test "is one for all starters, and nobody's parent", context do
    registry = registry(context)
    TelemetryStandIn.listen([@exit])
    starts = for n <- 1..10, do: ask(:start, registry, n, [held({:init, n})])
    workers = for n <- 1..10, do: reached({:init, n})
    Enum.each(workers, &go/1)
    Enum.each(starts, &answer/1)
    assert length(Enum.uniq(Enum.map(workers, &starter/1))) == 10
    Enum.each(workers, &kill/1)

    told_in =
      for n <- 1..10 do
        assert_receive {:event, :exit, _, %{id: ^n, in: events}}
        events
      end

    assert [events] = Enum.uniq(told_in)
    test = self()
    on_report(registry, fn -> send(test, {:logged_in, self()}) end)
    assert {:error, :no} = GenRegistry.start(registry, :bad, [fn -> {:stop, :no} end])
    assert_receive {:logged_in, ^events}

    # One that a starter was killed in is reported there, too.
    start = ask(:start, registry, :killed, [held(:init)])
    kill(starter(reached(:init)))
    assert answer(start) == {:error, {:starter_died, :killed}}
    assert_receive {:logged_in, ^events}

    assert module_of(events) == GenRegistry.Events
    kept = for n <- 1..10, do: start!(registry, n)
    parents = for pid <- Process.list(), do: Process.info(pid, :parent)
    refute {:parent, events} in parents
    # A worker is no business of it: what ends it, ends no worker, and it holds up none.
    kill(events)
    assert Enum.all?(kept, &Process.alive?/1)
  end

  test "is nobody's worker or guest", context do
    registry = registry(context)
    %{events: events} = :sys.get_state(registry)
    assert GenRegistry.register_name({registry, :guest}, events) == :no

    assert GenRegistry.start(registry, :worker, [:answer, fn -> {:ok, events} end]) ==
             {:error, {:already_registered, events}}

    assert GenRegistry.count(registry) == 0
    assert Process.alive?(events)
  end

  test "has its mailbox off the heap", context do
    registry = registry(context)
    TelemetryStandIn.listen([@exit])
    events = told_in(registry)
    assert module_of(events) == GenRegistry.Events
    assert Process.info(events, :message_queue_data) == {:message_queue_data, :off_heap}
  end

  test "is replaced if it is killed, while starts go on", context do
    registry = registry(context)
    TelemetryStandIn.listen([@exit])
    events = told_in(registry)
    server = Process.whereis(registry)
    kept = start!(registry, :kept)
    over = :atomics.new(1, [])

    starters =
      for n <- 1..4 do
        Task.async(fn ->
          Enum.find_value(Stream.iterate(1, &(&1 + 1)), fn m ->
            {:ok, _} = GenRegistry.start(registry, {n, m}, [plain()])
            :ok = GenRegistry.stop(registry, {n, m})
            :atomics.get(over, 1) == 1 and :ended
          end)
        end)
      end

    for _ <- 1..5, reduce: events do
      events ->
        kill(events)
        # Events come again, from another one.
        next = eventually(fn -> told_in(registry) end)
        assert next != events
        next
    end

    :atomics.put(over, 1, 1)
    assert Task.await_many(starters, 60_000) == List.duplicate(:ended, 4)

    # And reports.
    test = self()
    on_report(registry, fn -> send(test, :logged) end)
    assert {:error, :no} = GenRegistry.start(registry, :bad, [fn -> {:stop, :no} end])
    assert_receive :logged
    assert Process.whereis(registry) == server
    assert Process.alive?(kept)
  end

  describe "while it has much to tell," do
    # A registry, whose event process is held by a handler, and with a hundred ends to tell.
    setup context do
      registry = registry(context, worker_shutdown: 70_000)
      workers = for n <- 1..100, do: start!(registry, n)
      hold = {self(), [1]}
      :telemetry.attach_many(:hold, [@exit], &StartSteps.hold_event/4, hold)
      TelemetryStandIn.listen([@exit])
      Enum.each(workers, &kill/1)
      {:ok, registry: registry, events: reached({:handler, :exit, 1})}
    end

    defp assert_all_told(events) do
      down = Process.monitor(events)
      go(events)
      for n <- 1..100, do: assert_receive({:event, :exit, _, %{id: ^n, in: ^events}})
      # Then it ends.
      assert_receive {:DOWN, ^down, _, _, _}
    end

    test "it outlives its registry, and holds up neither a shutdown nor a restart", context do
      %{registry: registry, events: events} = context
      assert answer(ask(fn -> end_registry(registry) end)) == :ok
      assert {:ok, _} = answer(ask(fn -> begin_registry(registry) end))
      assert Process.alive?(events)
      start!(registry, :new)
      assert_all_told(events)
    end

    test "it outlives its registry that is killed", %{registry: registry, events: events} do
      kill_registry(registry)
      assert {:ok, _} = GenRegistry.start(registry, :new, [plain()])
      assert_all_told(events)
    end
  end

  test "ends with its registry when it has nothing to tell", context do
    registry = registry(context)
    TelemetryStandIn.listen([@exit])
    events = told_in(registry)
    assert module_of(events) == GenRegistry.Events
    monitor = Process.monitor(events)
    end_registry(registry)
    assert_receive {:DOWN, ^monitor, _, _, _}
  end
end
