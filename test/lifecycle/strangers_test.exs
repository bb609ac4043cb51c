defmodule GenRegistry.StrangersTest do
  @moduledoc """
  What strangers send to a registry, to its starters, or do to them by links, changes nothing.
  """

  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Lifecycle

  @moduletag :capture_log

  # A registry with one worker that runs, one in its init, one in its end, and who waits for them.
  defp busy(context) do
    registry = registry(context, worker_shutdown: :infinity)
    worker = start!(registry, :worker)
    ending = start!(registry, :ending, held_at_end(:end))
    stop = ask(:stop, registry, :ending)
    assert reached({:end, :shutdown}) == ending
    start = ask(:start, registry, :starting, [held(:init)])
    starting = reached(:init)

    %{
      registry: registry,
      server: Process.whereis(registry),
      starters: Enum.uniq(for pid <- [worker, ending, starting], do: starter(pid)),
      worker: worker,
      ending: {ending, stop},
      starting: {starting, start}
    }
  end

  defp assert_unchanged(busy) do
    %{registry: registry, worker: worker} = busy
    {ending, stop} = busy.ending
    {starting, start} = busy.starting

    assert_waits(stop, registry)
    assert_waits(start, registry)
    assert GenRegistry.to_list(registry) == [worker: worker]
    go(ending)
    assert answer(stop) == :ok
    go(starting)
    assert answer(start) == {:ok, starting}
    for starter <- busy.starters, do: :sys.get_state(starter)

    for pid <- [worker, starting],
        do: assert(LifecycleWorker.run(pid, fn -> :alive end) == :alive)

    assert Process.whereis(registry) == busy.server
    assert Enum.all?(busy.starters, &Process.alive?/1)
    assert Enum.sort(GenRegistry.to_list(registry)) == [starting: starting, worker: worker]
    assert {:ok, _} = GenRegistry.start(registry, :new, [plain()])
  end

  test "messages", context do
    busy = busy(context)
    {starting, _} = busy.starting

    messages = [
      :hello,
      {:hello, :world},
      nil,
      %{},
      [1 | 2],
      make_ref(),
      {make_ref(), {:ok, self()}},
      {:EXIT, self(), :normal},
      {:EXIT, self(), :kill},
      {:EXIT, spawn(fn -> :ok end), :shutdown},
      {:EXIT, :port, :shutdown},
      {:DOWN, make_ref(), :process, self(), :killed},
      {:DOWN, make_ref(), :process, busy.worker, :killed},
      {:"$gen_cast", :hello},
      # What looks like their own.
      {:started, self(), :worker, {:ok, self()}},
      {:started, self(), :starting, {:error, :failed}},
      {:started, self(), :starting, {:ok, :no_pid}},
      {:started, self(), :starting, :no_outcome},
      {:time_is_over, :ending, make_ref()},
      {:nested, :worker, {self(), make_ref()}, self()},
      {:nested, :starting, {self(), make_ref()}, self()},
      {:gave_up, :worker, self()},
      {:gave_up, :starting, starting},
      {:swept, self()},
      :probe
    ]

    for pid <- [busy.server | busy.starters], message <- messages, do: send(pid, message)
    assert_unchanged(busy)
  end

  test "casts", context do
    busy = busy(context)
    for pid <- [busy.server | busy.starters], do: GenServer.cast(pid, {:hello, :world})
    assert_unchanged(busy)
  end

  test "calls, which are logged once", context do
    busy = busy(context)

    for call <- [:hello, {:hello, :world}, {:start, :id}, nil] do
      log =
        capture_log(fn ->
          assert GenServer.call(busy.server, call, :infinity) == {:error, :unknown_call}
        end)

      assert [_, _] = String.split(log, "unknown call: #{inspect(call)}")
    end

    assert_unchanged(busy)
  end

  test "signals", context do
    busy = busy(context)

    for pid <- [busy.server | busy.starters], reason <- [:normal, :shutdown, :crash] do
      Process.exit(pid, reason)
    end

    assert_unchanged(busy)
  end

  test "deaths of those that linked themselves to them", context do
    busy = busy(context)

    for pid <- [busy.server | busy.starters], reason <- [:normal, :shutdown, :crash, :kill] do
      stranger =
        spawn(fn ->
          Process.link(pid)
          hang()
        end)

      until(fn -> stranger in elem(Process.info(pid, :links), 1) end)
      Process.exit(stranger, reason)
      if reason == :normal, do: Process.exit(stranger, :kill)
      down(stranger)
    end

    assert_unchanged(busy)
  end

  test "the id nil is an id like any other", context do
    registry = registry(context)
    assert GenRegistry.lookup(registry, nil) == {:error, :not_found}
    assert GenRegistry.stop(registry, nil) == {:error, :not_found}
    worker = start!(registry, nil)
    assert GenRegistry.lookup(registry, nil) == {:ok, worker}
    assert GenRegistry.lookup_or_start(registry, nil) == {:ok, worker}
    assert GenRegistry.to_list(registry) == [{nil, worker}]
    assert GenRegistry.sample(registry) == {nil, worker}
    kill(worker)
    assert GenRegistry.lookup(registry, nil) == {:error, :not_found}

    # Also while it is in flight.
    failing = held(:first, {:stop, {:shutdown, :failed}})
    first = ask(:lookup_or_start, registry, nil, [failing])
    init = reached(:first)
    second = ask(:start, registry, nil, [held_at_end(:end)])
    go(init)
    assert answer(first) == {:error, {:shutdown, :failed}}
    assert {:ok, worker} = answer(second)
    stop = ask(:stop, registry, nil)
    assert reached({:end, :shutdown}) == worker
    third = ask(:start, registry, nil, [plain()])
    assert_waits(third, registry)
    go(worker)
    assert answer(stop) == :ok
    assert {:ok, _} = answer(third)
  end
end
