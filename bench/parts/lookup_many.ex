defmodule Bench.Part.LookupMany do
  @moduledoc false
  # A hundred ids at a time, beside as many single lookups.

  import Bench
  alias Bench.{EtsRegistry, Ids}

  def run, do: Enum.each([1_000, large()], &measure/1)

  defp measure(entries) do
    with_registries([GenRegistry, EtsRegistry], fn ->
      fill(GenRegistry, 1..entries)
      :ets.insert(name(EtsRegistry), GenRegistry.to_list(name(GenRegistry)))
      settle()
      probed = min(entries, 200_000)
      probes = Ids.probes(& &1, 1..entries, probed)
      times = max(div(500_000, probed), 1)
      name = name(GenRegistry)

      ways = %{
        GenRegistry => &GenRegistry.lookup_many(name, &1),
        "GenRegistry, one by one" => fn ids -> for id <- ids, do: GenRegistry.lookup(name, id) end,
        EtsRegistry => fn ids -> for id <- ids, do: EtsRegistry.lookup(name(EtsRegistry), id) end
      }

      compare([entries: entries], "ns", Map.keys(ways), fn way ->
        ns =
          together([probes], &chunks/1, fn chunks ->
            Bench.Loops.repeat(times, fn -> Enum.each(chunks, ways[way]) end)
          end)

        ns / (probed * times)
      end)
    end)
  end

  defp chunks(probes), do: probes |> :erlang.binary_to_term() |> Enum.chunk_every(100)
end
