defmodule Bench.Part.Kills do
  @moduledoc false
  # The registry is killed: how long until a new id's worker is started by the next one, which its
  # supervisor starts, and how long starts take in the second after that, while what was left ends. The
  # caller asks every millisecond.

  import Bench
  alias Bench.EtsRegistry

  @second 1_000_000_000

  def run do
    for {workers, end_ms} <- [
          {size(20_000, 2_000), 0},
          {size(200_000, 20_000), 0},
          {1, 3_000}
        ] do
      compare([workers: workers, end_ms: end_ms], "ms", [GenRegistry, EtsRegistry], fn rival ->
        supervised(rival, fn -> kill(rival, workers, end_ms) end)
      end)
    end
  end

  defp supervised(rival, fun) do
    Process.flag(:trap_exit, true)
    start = {rival, :start_link, [Bench.Worker, [name: name(rival)]]}
    child = %{id: rival, start: start, type: :supervisor, shutdown: :infinity}
    {:ok, supervisor} = Supervisor.start_link([child], strategy: :one_for_one)

    try do
      fun.()
    after
      Supervisor.stop(supervisor, :shutdown, :infinity)
      flush()
      settle()
    end
  end

  defp kill(rival, workers, end_ms) do
    fill(rival, 1..workers, [0, if(end_ms > 0, do: {:ends_after, end_ms})])
    settle()
    before = starts(rival, now() + @second, :before, 0, [])
    begun = now()
    Process.exit(Process.whereis(name(rival)), :kill)
    first_start(rival)
    first = now() - begun
    meanwhile = starts(rival, now() + @second, :meanwhile, 0, [])

    %{
      "the first start" => first / 1.0e6,
      {"p99 of starts before", "µs"} => quantile(before, 0.99),
      {"p99 of starts in the next second", "µs"} => quantile(meanwhile, 0.99)
    }
  end

  # Until there is a registry again.
  defp first_start(rival) do
    {:ok, _} = rival.lookup_or_start(name(rival), :first, [], :infinity)
  rescue
    ArgumentError -> first_start(rival)
  catch
    :exit, _ -> first_start(rival)
  end

  defp starts(rival, ends_at, round, nth, times) do
    begun = now()

    if begun >= ends_at do
      times
    else
      {:ok, _} = rival.lookup_or_start(name(rival), {round, nth}, [], :infinity)
      times = [(now() - begun) / 1_000 | times]

      receive do
      after
        1 -> starts(rival, ends_at, round, nth + 1, times)
      end
    end
  end
end
