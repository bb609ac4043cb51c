defmodule Bench.Part.Waiters do
  @moduledoc false
  # What a start takes while very many processes wait for other ids by `await`.

  import Bench

  @nobody "nobody waits"
  # How many starts are measured at once.
  @starts 2_000

  def run do
    Process.flag(:trap_exit, true)
    many = size(100_000, 10_000)

    for {of, ids} <- [
          {"one id", List.duplicate(:awaited, many)},
          {"as many ids", for(n <- 1..many, do: {:awaited, n})}
        ] do
      registries = %{
        @nobody => start_registry(__MODULE__.Nobody),
        GenRegistry => start_registry(__MODULE__)
      }

      waiters = for id <- ids, do: waiter(__MODULE__, id)
      settle()

      compare([waiters: many, of: of], "µs", [GenRegistry, @nobody], &starts(registries[&1]))

      for waiter <- waiters, do: Process.exit(waiter, :kill)
      for {_, name} <- registries, do: GenServer.stop(name, :shutdown, :infinity)
      flush()
    end
  end

  defp start_registry(name) do
    {:ok, _} = GenRegistry.start_link(Bench.Worker, name: name)
    name
  end

  defp waiter(name, id) do
    waiter = spawn(fn -> GenRegistry.await(name, id, :infinity) end)
    until_it_waits(waiter)
    waiter
  end

  defp until_it_waits(waiter) do
    case Process.info(waiter, [:status, :current_function]) do
      [status: :waiting, current_function: {GenRegistry.Calls, _, _}] -> :ok
      _ -> until_it_waits(waiter)
    end
  end

  # One after the other; what they have started is ended after that.
  defp starts(name) do
    ids = 1..@starts
    begun = now()
    for id <- ids, do: {:ok, _} = GenRegistry.start(name, id)
    took = now() - begun
    for id <- ids, do: :ok = GenRegistry.stop(name, id)
    took / 1_000 / @starts
  end
end
