defmodule Bench.Part.StartLatency do
  @moduledoc false
  # How long single starts take.
  #
  # First one after the other, beside none, many and very many workers that are there already.
  #
  # Then while one init in fifty takes 100 ms. A start is asked for every 5 ms, whatever became of
  # those before: it is the wait of the others that counts, so those whose own init is slow are left
  # out. One process that starts all is busy with slow inits two fifths of that time.

  import Bench
  alias Bench.EtsRegistry

  @rivals [GenRegistry, EtsRegistry]

  def run do
    for resident <- [0, size(100_000, 20_000), size(500_000, 100_000)] do
      with_registries(@rivals, fn ->
        if resident > 0, do: Enum.each(@rivals, &fill(&1, 1..resident))
        settle()

        compare([inits: "quick", resident: resident], "µs", @rivals, fn rival ->
          ids = for n <- 1..size(20_000, 5_000), do: {:new, n}
          quantiles = one_after_the_other(rival, ids)
          Enum.each(ids, &rival.stop(name(rival), &1))
          settle()
          quantiles
        end)
      end)
    end

    compare([inits: "one in fifty takes 100 ms", resident: 0], "µs", @rivals, fn rival ->
      with_registries([rival], fn -> every_5_ms(rival, size(1_000, 400)) end)
    end)
  end

  defp one_after_the_other(rival, ids) do
    parent = self()
    spawn_link(fn -> send(parent, {:latencies, Enum.map(ids, &latency(rival, &1, 0))}) end)

    receive do
      {:latencies, latencies} -> quantiles(latencies)
    end
  end

  defp every_5_ms(rival, count) do
    # The same ones for both.
    :rand.seed(:exsss, 4)
    parent = self()

    callers =
      for n <- 1..count do
        init_ms = if :rand.uniform(50) == 1, do: 100, else: 0

        caller =
          spawn_link(fn ->
            receive do
              :go -> send(parent, {:latency, self(), latency(rival, n, init_ms)})
            end
          end)

        Process.send_after(caller, :go, 100 + 5 * n)
        {caller, init_ms}
      end

    latencies =
      for {caller, init_ms} <- callers do
        receive do
          {:latency, ^caller, latency} -> {init_ms, latency}
        end
      end

    quantiles(for {0, latency} <- latencies, do: latency)
  end

  defp latency(rival, id, init_ms) do
    begun = now()
    {:ok, _} = rival.lookup_or_start(name(rival), id, [init_ms], :infinity)
    (now() - begun) / 1_000
  end

  defp quantiles(latencies) do
    Map.new([{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}], fn {name, part} ->
      {name, quantile(latencies, part)}
    end)
  end
end
