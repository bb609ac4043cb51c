defmodule Bench.Part.Scans do
  @moduledoc false
  # All entries, and one at random. And how long the single steps take, in which ours passes over the
  # table: a NIF that does not return holds up a scheduler.

  import Bench
  alias Bench.EtsRegistry
  alias GenRegistry.Native

  @rivals [GenRegistry, EtsRegistry]

  def run do
    with_registries(@rivals, fn ->
      fill(GenRegistry, 1..large())
      # The same workers.
      :ets.insert(name(EtsRegistry), GenRegistry.to_list(name(GenRegistry)))
      settle()
      entries = large()

      compare([entries: entries, of: "reduce"], "ms", @rivals, fn rival ->
        time(fn -> ^entries = rival.reduce(name(rival), 0, fn {_, _}, n -> n + 1 end) end) / 1.0e6
      end)

      compare([entries: entries, of: "to_list"], "ms", @rivals, fn rival ->
        time(fn -> [{_, _} | _] = rival.to_list(name(rival)) end) / 1.0e6
      end)

      # ETS has nothing that draws one at random.
      compare([entries: entries, of: "sample"], "ns", [GenRegistry], fn rival ->
        time(fn -> for _ <- 1..10_000, do: {_, _} = rival.sample(name(rival)) end) / 10_000
      end)

      steps(entries)
    end)
  end

  # In a process of its own, which has no garbage yet.
  defp time(fun), do: together([:nothing], fn _ -> fun.() end)

  # What else runs on the machine makes some step long in every run. The table does not change, so
  # the quickest of a step's runs is what the step itself takes.
  defp steps(entries) do
    runs = for _ <- 1..rounds(), do: steps_from(0, [])
    longest = runs |> Enum.zip_with(&Enum.min/1) |> Enum.max()

    for {what, samples} <- [
          {"longest NIF call", [longest]},
          {"longest NIF call, interruptions included", Enum.map(runs, &Enum.max/1)},
          {"NIF call, p99", Enum.map(runs, &quantile(&1, 0.99))}
        ] do
      keep([entries: entries, of: what], "ms", GenRegistry, Enum.map(samples, &(&1 / 1.0e6)))
    end
  end

  defp steps_from(:done, taken), do: taken

  defp steps_from(cursor, taken) do
    begun = now()
    {_entries, next} = Native.scan(name(GenRegistry), cursor)
    steps_from(next, [now() - begun | taken])
  end
end
