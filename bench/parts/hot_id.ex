defmodule Bench.Part.HotId do
  @moduledoc false
  # One id, read again and again by one process, and by two at once.

  import Bench
  alias Bench.{EtsRegistry, Ids, Loops, Nothing}

  @entries 1_000

  def run do
    for shape <- ["integer", "UUID"] do
      make = Ids.shape(shape)

      with_registries([GenRegistry, EtsRegistry], fn ->
        Enum.each([GenRegistry, EtsRegistry], &fill(&1, Enum.map(1..@entries, make)))
        settle()

        compare([shape: shape], "ns", [GenRegistry, EtsRegistry, Nothing], fn rival ->
          Map.new([{"1 reader", 1}, {"2 readers", 2}], fn {name, readers} ->
            {name, read(rival, make, readers)}
          end)
        end)
      end)
    end
  end

  defp read(rival, make, readers) do
    times = size(2_000_000, 500_000)

    ns =
      together(List.duplicate(@entries, readers), make, fn id ->
        Loops.hot(rival, name(rival), id, times)
      end)

    ns / times
  end
end
