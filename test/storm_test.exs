defmodule GenRegistry.StormTest do
  @moduledoc """
  Everything at once: several processes start, stop, kill and look up a few hundred ids at random,
  others take ids as guests, starters are killed, and so is the registry itself now and then. Handlers of
  telemetry and of the log meanwhile take their time, raise, and use the registry themselves.

  In the environment, `STORM_SECONDS` says how long it takes, and `STORM_SEED` repeats a choice of
  operations; how they come together in time, nothing repeats.
  """

  use ExUnit.Case

  import Lifecycle

  @moduletag :capture_log
  @moduletag timeout: :infinity

  @seconds String.to_integer(System.get_env("STORM_SECONDS", "5"))
  @callers 8
  @ids 300
  # After so many operations, the registry is killed.
  @calm 2_000

  setup do
    TelemetryStandIn.load()
    on_exit(&TelemetryStandIn.unload/0)
  end

  test "an id has one live worker, and no dead one is answered", context do
    seed = String.to_integer(System.get_env("STORM_SEED", "#{ExUnit.configuration()[:seed]}"))
    registry = registry(context, worker_module: StormWorker, worker_shutdown: 20, max_starting: 4)
    kinds = List.duplicate(StormWorker.kinds(), 5) ++ [:stubborn]
    storm = Storm.begin(registry, @callers, @ids, seed, List.flatten(kinds))
    handlers = StormHandlers.attach(storm)
    ends_at = System.monotonic_time(:millisecond) + 1_000 * @seconds
    kills = kill_until(ends_at, storm, registry, 0, minutes_left(ends_at))
    faults = Storm.finish(storm) ++ StormHandlers.detach(handlers)
    [slow, calls, raised] = counts = StormHandlers.counts(handlers)
    highest = Census.highest(storm.census)
    dead = Enum.count(faults, &match?({:dead, _}, &1))

    IO.puts("""

    storm: seed #{seed}, #{Storm.operations(storm)} operations, \
    #{Census.entered(storm.census)} workers, #{kills} kills of the registry
    handlers: #{slow} took milliseconds, #{calls} used the registry, #{raised} raised
    highest number of live workers for one id: #{highest}, dead pids answered: #{dead}\
    """)

    assert highest == 1
    assert faults == []
    assert kills > 0
    assert Enum.all?(counts, &(&1 > 0))

    # All that was begun comes to its end, and then all agree.
    until(fn -> agree?(storm, registry) end)
    assert GenRegistry.count(registry) > 0
    children = children(registry)
    guests = Census.alive(storm.census) -- children
    assert guests != []
    end_registry(registry)
    refute Enum.any?(children, &Process.alive?/1)
    assert Enum.sort(Census.alive(storm.census)) == Enum.sort(guests)

    # They have their ids again.
    begin_registry(registry)
    assert Enum.sort(pids(registry)) == Enum.sort(guests)
    Enum.each(guests, &kill/1)
    assert GenRegistry.count(registry) == 0
  end

  defp kill_until(ends_at, storm, registry, kills, minutes) do
    operations = Storm.operations(storm)

    # One there is, however slow the machine.
    over? = fn -> kills > 0 and System.monotonic_time(:millisecond) >= ends_at end

    until(fn ->
      :sys.get_state(registry, :infinity)
      Storm.operations(storm) >= operations + @calm or over?.()
    end)

    if over?.() do
      kills
    else
      kill_registry(registry)
      # Of a long one, so that it is seen to go on.
      left = minutes_left(ends_at)
      if left < minutes, do: IO.puts("storm: #{left + 1} minutes left, #{kills + 1} kills")
      kill_until(ends_at, storm, registry, kills + 1, left)
    end
  end

  defp minutes_left(ends_at), do: div(ends_at - System.monotonic_time(:millisecond), 60_000)

  defp agree?(storm, registry) do
    listed = GenRegistry.to_list(registry)
    pids = Enum.sort(pids(registry))
    ids = Enum.map(listed, &elem(&1, 0))

    ids == Enum.uniq(ids) and
      Enum.all?(listed, fn {id, pid} -> GenRegistry.lookup(registry, id) == {:ok, pid} end) and
      GenRegistry.count(registry) == length(pids) and
      children(registry) -- pids == [] and
      length(children(registry)) == Supervisor.count_children(registry).active and
      Enum.sort(Census.alive(storm.census)) == pids
  end

  defp pids(registry), do: for({_id, pid} <- GenRegistry.to_list(registry), do: pid)

  defp children(registry) do
    for {_id, pid, :worker, [StormWorker]} <- Supervisor.which_children(registry), do: pid
  end
end
