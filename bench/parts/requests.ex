defmodule Bench.Part.Requests do
  @moduledoc false
  # `call` of ids that have a worker, beside `lookup_or_start` and `GenServer.call` by hand, which lose a
  # call now and then. This module is the worker's, too.

  use GenServer

  import Bench

  @by_hand "by hand"

  def run do
    # The registry's end is no matter of this process.
    Process.flag(:trap_exit, true)
    {:ok, registry} = GenRegistry.start_link(__MODULE__)

    for entries <- [1_000, 100_000] do
      for id <- 1..entries, do: {:ok, _} = GenRegistry.lookup_or_start(__MODULE__, id)
      settle()

      for callers <- [1, 2, 8] do
        compare([entries: entries, callers: callers], "ns", [GenRegistry, @by_hand], fn rival ->
          times = div(size(200_000, 40_000), callers)
          probes = List.duplicate(times, callers)

          ns =
            together(probes, &Enum.map(1..&1, fn _ -> :rand.uniform(entries) end), fn ids ->
              Enum.each(ids, caller(rival))
            end)

          ns / (times * callers)
        end)
      end
    end

    GenServer.stop(registry, :shutdown, :infinity)
  end

  defp caller(GenRegistry), do: fn id -> :request = GenRegistry.call(__MODULE__, id, :request) end

  defp caller(@by_hand) do
    fn id ->
      {:ok, pid} = GenRegistry.lookup_or_start(__MODULE__, id)
      :request = GenServer.call(pid, :request)
    end
  end

  ## The worker

  def start_link, do: GenServer.start_link(__MODULE__, nil)

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_call(request, _from, state), do: {:reply, request, state}
end
