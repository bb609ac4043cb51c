defmodule Bench.Part.Stops do
  @moduledoc false
  # Stops of workers that end at once. Ours, and the supervisors', wait until the worker is gone; the
  # ETS baseline has sent it away.

  import Bench
  alias Bench.{DynamicRegistry, EtsRegistry, PartitionedRegistry}

  def run do
    rivals = [GenRegistry, EtsRegistry, DynamicRegistry, PartitionedRegistry]
    count = size(20_000, 5_000)

    for at_once <- [1, 200] do
      compare([at_once: at_once], "µs", rivals, fn rival ->
        with_registries([rival], fn ->
          fill(rival, 1..count)
          settle()
          share(1..count, at_once, fn id -> :ok = rival.stop(name(rival), id) end) / 1_000 / count
        end)
      end)
    end
  end
end
