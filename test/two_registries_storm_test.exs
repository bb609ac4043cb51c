defmodule GenRegistry.TwoRegistriesStormTest do
  @moduledoc """
  Two registries whose workers start each other in their inits, while either registry, its starters and its
  sweepers are killed: what one that was killed has left is waited for, id by id.

  `STORM_SECONDS` and `STORM_SEED` are as in `GenRegistry.StormTest`.
  """

  use ExUnit.Case

  import Lifecycle

  @moduletag :capture_log
  @moduletag timeout: :infinity

  @seconds String.to_integer(System.get_env("STORM_SECONDS", "5"))
  # How long starts and ends take at the most, in milliseconds: in a short storm less.
  @start_ms if @seconds > 60, do: 100, else: 20
  @end_ms if @seconds > 60, do: 3_000, else: 300

  @callers 8
  @ids 60
  # Of a call, in milliseconds: some ends that one waits for, one after the other.
  @timeout 30_000

  test "an id has one live worker, and whoever asks has an answer in time", context do
    seed = String.to_integer(System.get_env("STORM_SEED", "#{ExUnit.configuration()[:seed]}"))

    registries =
      for which <- [:users, :guilds] do
        name = %{context | test: Module.concat(context.test, which)}
        registry(name, worker_module: CrossingWorker, max_starting: 4)
      end

    storm = %CrossingWorker{
      registries: List.to_tuple(registries),
      censuses: {Census.new(@ids), Census.new(@ids)},
      ids: @ids,
      start_ms: @start_ms,
      end_ms: @end_ms
    }

    ends_at = System.monotonic_time(:millisecond) + 1_000 * @seconds

    tasks =
      for n <- 1..@callers do
        Task.async(fn ->
          :rand.seed(:exsss, {seed, n, 0})
          calls(storm, ends_at, {0, []})
        end)
      end

    :rand.seed(:exsss, {seed, 0, 0})
    kills = kill_until(storm, ends_at, 0)
    {counts, faults} = tasks |> Task.await_many(:infinity) |> Enum.unzip()
    highest = Enum.max(for census <- Tuple.to_list(storm.censuses), do: Census.highest(census))
    faults = Enum.concat(faults)

    IO.puts("""

    storm of two: seed #{seed}, #{Enum.sum(counts)} operations, #{kills} kills of registries
    highest number of live workers for one id: #{highest}, \
    dead pids answered: #{Enum.count(faults, &match?({:dead, _}, &1))}\
    """)

    assert highest == 1
    assert faults == []
    assert kills > 0
    # Nothing of what was killed is left.
    for registry <- registries do
      table = :sys.get_state(registry).table
      until(fn -> GenRegistry.Earlier.tables(table) == [] end, 20)
      assert %{stopping: 0, starting: 0, queued: 0} = GenRegistry.info(registry)
    end

    Enum.each(registries, &end_registry/1)
    for census <- Tuple.to_list(storm.censuses), do: assert(Census.alive(census) == [])
  end

  defp until(fun, times) do
    Lifecycle.until(fun)
  rescue
    error in ExUnit.AssertionError -> if times > 1, do: until(fun, times - 1), else: raise(error)
  end

  ## What callers do

  defp calls(storm, ends_at, {count, faults}) do
    if System.monotonic_time(:millisecond) >= ends_at do
      {count, faults}
    else
      which = :rand.uniform(2) - 1
      registry = elem(storm.registries, which)
      index = :rand.uniform(@ids)

      new =
        case :rand.uniform(10) do
          n when n <= 5 -> start(storm, which, registry, index)
          n when n <= 8 -> stop(registry, index)
          _ -> kill_worker(registry, index)
        end

      calls(storm, ends_at, {count + 1, new ++ faults})
    end
  end

  defp start(storm, which, registry, index) do
    seen = Census.seen(elem(storm.censuses, which), index)
    args = CrossingWorker.args(storm, which, index)

    case attempt(fn -> GenRegistry.lookup_or_start(registry, index, args, @timeout) end) do
      {:ok, pid} ->
        dead? = Census.was_dead?(elem(storm.censuses, which), seen, pid)
        if dead?, do: [{:dead, pid}], else: []

      {:error, {:starter_died, _}} ->
        []

      {:error, reason} when reason in [:killed, :shutdown] ->
        []

      other ->
        without_registry(:start, other)
    end
  end

  defp stop(registry, index) do
    case attempt(fn -> GenRegistry.stop(registry, index, @timeout) end) do
      :ok -> []
      {:error, :not_found} -> []
      other -> without_registry(:stop, other)
    end
  end

  defp without_registry(call, answer) do
    case answer do
      {:error, %ArgumentError{}} -> []
      {:exit, {reason, {GenServer, :call, _}}} when reason in [:killed, :noproc] -> []
      other -> [{:unexpected, {call, other}}]
    end
  end

  defp kill_worker(registry, index) do
    with {:ok, pid} <- attempt(fn -> GenRegistry.lookup(registry, index) end),
         do: Process.exit(pid, :kill)

    []
  end

  ## Who is killed

  defp kill_until(storm, ends_at, kills) do
    receive do
    after
      50 + :rand.uniform(400) -> :ok
    end

    if System.monotonic_time(:millisecond) >= ends_at and kills > 0 do
      kills
    else
      registry = elem(storm.registries, :rand.uniform(2) - 1)
      server = Process.whereis(registry)

      victims =
        case :rand.uniform(6) do
          n when n <= 2 -> [server]
          3 -> starters_of(server)
          4 -> [sweeper_of(server)]
          5 -> [server, sweeper_of(server)]
          6 -> [server, sweeper_of(server) | starters_of(server)]
        end

      for pid <- victims, is_pid(pid), do: Process.exit(pid, :kill)
      kill_until(storm, ends_at, kills + if(server in victims, do: 1, else: 0))
    end
  end

  # Some of them, of those that start or parent workers.
  defp starters_of(server) do
    state = attempt(fn -> :sys.get_state(server) end)

    with %{schedule: %{starters: %{states: states}}} <- state do
      states |> Map.keys() |> Enum.take_random(2)
    else
      _ -> []
    end
  end

  defp sweeper_of(server) do
    with %{sweeper: sweeper} <- attempt(fn -> :sys.get_state(server) end),
         do: sweeper,
         else: (_ -> nil)
  end
end
