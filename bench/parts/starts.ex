defmodule Bench.Part.Starts do
  @moduledoc false
  # Starts of workers: by one, two and many callers with nothing to do in the init, and by many with
  # an init that takes its time, as one that asks a database does.

  import Bench
  alias Bench.{DynamicRegistry, EtsRegistry, PartitionedRegistry}

  @rivals [GenRegistry, EtsRegistry, DynamicRegistry, PartitionedRegistry]

  def run do
    for {callers, init_ms, count} <- [
          {1, 0, size(20_000, 5_000)},
          {2, 0, size(20_000, 5_000)},
          {200, 0, size(40_000, 10_000)},
          {200, 1, size(20_000, 10_000)},
          {200, 5, size(10_000, 5_000)}
        ] do
      compare([callers: callers, init_ms: init_ms], "µs", @rivals, fn rival ->
        # Those that start one worker at a time are not made to wait for all of them.
        one_by_one? = init_ms > 0 and rival != GenRegistry
        count = if one_by_one?, do: div(count, 25), else: count

        with_registries([rival], fn ->
          ns =
            share(1..count, callers, fn id ->
              {:ok, _} = rival.lookup_or_start(name(rival), id, [init_ms], :infinity)
            end)

          ns / 1_000 / count
        end)
      end)
    end
  end
end
