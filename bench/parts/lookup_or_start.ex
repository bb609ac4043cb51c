defmodule Bench.Part.LookupOrStart do
  @moduledoc false
  # `lookup_or_start` of ids that have a worker, which ours asks the VM whether it is alive. That
  # reads the process itself: with many it is a miss of the caches, which the message after it saves.

  import Bench
  alias Bench.{EtsRegistry, Ids, Loops}

  def run do
    for entries <- Enum.uniq([1_000, 100_000, large()]) do
      with_registries([GenRegistry, EtsRegistry], fn ->
        fill(GenRegistry, 1..entries)
        # The same workers.
        :ets.insert(name(EtsRegistry), GenRegistry.to_list(name(GenRegistry)))
        settle()

        probed = min(entries, 200_000)
        probes = Ids.probes(& &1, 1..entries, probed)
        times = max(div(200_000, probed), 1)

        for {message, loop} <- [
              {"nothing", &Loops.lookup_or_starts/3},
              {"a cast", &Loops.lookup_or_start_and_casts/3}
            ] do
          compare([entries: entries, then: message], "ns", [GenRegistry, EtsRegistry], fn rival ->
            ns =
              together([probes], &:erlang.binary_to_term/1, fn ids ->
                Loops.repeat(times, fn -> loop.(rival, name(rival), ids) end)
              end)

            # Until the workers have read what they were sent.
            settle()
            ns / (probed * times)
          end)
        end
      end)
    end
  end
end
