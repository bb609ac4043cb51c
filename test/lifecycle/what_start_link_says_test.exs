defmodule GenRegistry.WhatStartLinkSaysTest do
  @moduledoc """
  A caller is told what `start_link` returned, also if the process has ended by then. Its end is an event
  like any other, and nobody who asks later gets it.
  """

  # While some of these tests run, all registries find `:telemetry`.
  use ExUnit.Case

  import ExUnit.CaptureLog
  import Lifecycle

  @stop [:gen_registry, :worker, :start, :stop]
  @start [:gen_registry, :worker, :start, :start]
  @exception [:gen_registry, :worker, :start, :exception]
  @exit [:gen_registry, :worker, :exit]

  # Works in its first steps, and has done then.
  defmodule Greeter do
    use GenServer
    def start_link(to), do: GenServer.start_link(__MODULE__, to)
    @impl true
    def init(to), do: {:ok, to, {:continue, :greet}}

    @impl true
    def handle_continue(:greet, to) do
      send(to, {:greeted, self()})
      {:stop, :normal, to}
    end
  end

  # A start_link that returns a process that is dead by then, each linked or not.
  defp dead(kind, reason) do
    fn ->
      pid =
        if kind == :linked,
          do: spawn_link(fn -> exit(reason) end),
          else: spawn(fn -> exit(reason) end)

      monitor = Process.monitor(pid)
      receive(do: ({:DOWN, ^monitor, _, _, _} -> {:ok, pid}))
    end
  end

  # All that the log had to say, when all that was done has been told.
  defp log_of(context, options, fun) do
    registry = registry(context, options)

    capture_log(fn ->
      fun.(registry)
      StartSteps.end_with_all_told(registry)
    end)
  end

  test "{:ok, pid} of a worker that works and ends at once, and nothing is logged", context do
    log =
      log_of(context, [worker_module: Greeter], fn registry ->
        for n <- 1..1_000, kind <- [:start, :lookup_or_start] do
          assert {:ok, pid} = apply(GenRegistry, kind, [registry, {kind, n}, [self()]])
          assert_receive {:greeted, ^pid}
        end
      end)

    assert log == ""
  end

  for kind <- [:linked, :not_linked], reason <- [:normal, :early] do
    test "{:ok, pid} of one that was dead by then (#{kind}, #{reason})", context do
      log =
        log_of(context, [worker_module: FunWorker], fn registry ->
          args = [dead(unquote(kind), unquote(reason))]

          for _ <- 1..20, function <- [:start, :lookup_or_start] do
            assert {:ok, pid} = apply(GenRegistry, function, [registry, :id, args])
            assert is_pid(pid)
            # Nobody who asks later gets it.
            assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
            assert GenRegistry.count(registry) == 0
            assert GenRegistry.stop(registry, :id) == {:error, :not_found}
            assert {:ok, other} = GenRegistry.start(registry, :id, [&IdleWorker.start_link/0])
            assert other != pid
            assert GenRegistry.stop(registry, :id) == :ok
          end
        end)

      refute log =~ "failed to start"
    end
  end

  test "who waited for it has an own start tried", context do
    registry = registry(context, worker_module: FunWorker)
    test = self()
    dead = dead(:linked, :normal)

    first =
      ask(:start, registry, :id, [
        fn ->
          wait(test, :first)
          dead.()
        end
      ])

    starter = reached(:first)

    others =
      for kind <- [:lookup_or_start, :start, :lookup_or_start] do
        ask(kind, registry, :id, [
          fn ->
            send(test, {:own_start_of, kind})
            IdleWorker.start_link()
          end
        ])
      end

    go(starter)
    assert {:ok, gone} = answer(first)
    refute Process.alive?(gone)

    assert [{:ok, pid}, {:error, {:already_started, pid}}, {:ok, pid}] =
             Enum.map(others, &answer/1)

    assert pid != gone
    assert Process.alive?(pid)
    assert_receive {:own_start_of, :lookup_or_start}
    refute_received {:own_start_of, _}
  end

  describe "with :telemetry, the start is one that went well, and then comes the end:" do
    setup do
      TelemetryStandIn.load()
      on_exit(&TelemetryStandIn.unload/0)
    end

    for {kind, reasons} <- [linked: [:normal, :early], not_linked: [:normal, :early]],
        reason <- reasons do
      test "#{kind}, #{reason}", context do
        registry = registry(context, worker_module: FunWorker)
        TelemetryStandIn.listen([@start, @stop, @exception, @exit])

        for n <- 1..20 do
          args = [dead(unquote(kind), unquote(reason))]
          assert {:ok, pid} = GenRegistry.start(registry, n, args)
          assert_receive {:event, :start, _, %{id: ^n}}
          assert_receive {:event, stop, _, %{id: ^n} = metadata}
          assert {stop, metadata.result, metadata.pid} == {:stop, :ok, pid}
          assert_receive {:event, :exit, measurements, %{id: ^n, pid: ^pid, reason: reason}}
          # Of one that was linked, it is known. Of others, there was nobody to be told.
          assert reason == if(unquote(kind) == :linked, do: unquote(reason), else: :noproc)
          assert measurements.lifetime >= 0
        end

        # One each.
        kill(elem(GenRegistry.start(registry, :last, [&IdleWorker.start_link/0]), 1))
        assert_receive {:event, :exit, _, %{id: :last}}
        for _ <- 1..2, do: assert_receive({:event, _, _, %{id: :last}})
        refute_received {:event, _, _, _}
      end
    end
  end
end
