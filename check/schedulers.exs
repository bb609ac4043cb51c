# Loops that do nothing but call the library, with large ids: no process keeps a scheduler for ten
# milliseconds, as the VM itself tells. The machine pauses too, but anywhere: what is long by itself is so
# each time. So each loop has some rounds, until one in which nobody was long; and beside it, in turn, a
# loop that calls nothing of ours. A loop whose best round is as bad as the other one's, on a machine that
# has no quiet moment, is not at fault.
#
#   SECONDS=0.2 MIX_ENV=test mix run -r check/long_schedules.exs check/schedulers.exs

defmodule Schedulers do
  import Bitwise

  @registry Schedulers.Registry
  @most_rounds 8
  @mb 1_000_000
  @sizes [16, 1_000, 60_000, 100_000, @mb, 4 * @mb, 8 * @mb]

  def run do
    {:ok, _} =
      Supervisor.start_link([{GenRegistry, worker_module: IdleWorker, name: @registry}],
        strategy: :one_for_one
      )

    for bytes <- @sizes, do: large(bytes)
    watcher = LongSchedules.watch()
    results = for {name, loop} <- loops(), do: {name, rounds(name, loop, watcher)}
    failed = Enum.filter(results, fn {_, result} -> fault?(result) end)

    for {name, %{ours: long}} <- failed,
        do: IO.puts("FAILED: #{name}: #{inspect(Enum.take(long, 5))}")

    longest = for({_, result} <- results, do: longest(result.ours)) |> Enum.max()
    rounds = for({_, result} <- results, do: result.rounds) |> Enum.max()

    IO.puts(
      "loops: #{length(results)}, long by themselves: #{length(failed)}, the longest time on a " <>
        "scheduler #{longest} ms, in the best of up to #{rounds} rounds"
    )

    unless failed == [], do: System.halt(1)
  end

  # Of each, the best round.
  defp rounds(name, loop, watcher, best \\ %{ours: nil, nothing: nil, rounds: 0}) do
    best = %{
      ours: better(best.ours, round(watcher, loop)),
      nothing: better(best.nothing, round(watcher, fn -> loop(fn -> :erlang.phash2(1) end) end)),
      rounds: best.rounds + 1
    }

    if best.ours == [] or best.rounds == @most_rounds do
      IO.puts(
        "#{name}: the longest #{longest(best.ours)} ms, of nothing #{longest(best.nothing)} ms, " <>
          "after #{best.rounds} rounds"
      )

      best
    else
      rounds(name, loop, watcher, best)
    end
  end

  defp round(watcher, loop) do
    LongSchedules.take(watcher)
    loop.()
    watcher |> LongSchedules.take() |> Enum.sort_by(&(-elem(&1, 1)))
  end

  defp better(nil, long), do: long
  defp better(best, long), do: Enum.min_by([best, long], &longest/1)

  defp fault?(%{ours: ours, nothing: nothing}), do: longest(ours) > 2 * longest(nothing)

  defp longest([]), do: 0
  defp longest([{_, milliseconds, _, _} | _]), do: milliseconds

  defp loops do
    reads =
      for {what, id} <- under_64_kb(), {call, fun} <- reads() do
        {"#{call} of #{what}", fn -> loop(fn -> fun.(id) end) end}
      end

    reads ++
      [
        {"starts and stops of a megabyte",
         fn -> loop(fn -> come_and_go({:erlang.unique_integer(), large(@mb)}) end) end},
        {"starts and stops of 50,000 integers",
         fn -> loop(fn -> come_and_go([make_ref() | Enum.to_list(1..50_000)]) end) end},
        {"guests with a megabyte",
         fn -> loop(fn -> guest({:erlang.unique_integer(), large(@mb)}) end) end},
        {"exits among 64 ids of 8 MB", fn -> exits(for n <- 1..64, do: {n, large(8 * @mb)}) end},
        {"exits among 200 ids of a megabyte",
         fn -> exits(for n <- 1..200, do: {n, large(@mb)}) end},
        {"exits among 200 ids of 50,000 integers",
         fn -> exits(for n <- 1..200, do: [n | Enum.to_list(1..50_000)]) end},
        {"exits among 200 ids that the VM copies",
         fn -> exits(for _ <- 1..200, do: [make_ref() | Enum.to_list(1..50_000)]) end},
        {"a stream over 40 ids of 4 MB",
         fn ->
           beside(for(n <- 1..40, do: {n, large(4 * @mb)}), fn ->
             Enum.take(GenRegistry.stream(@registry), 1)
           end)
         end},
        {"a list of 40 ids of 4 MB",
         fn ->
           beside(for(n <- 1..40, do: {n, large(4 * @mb)}), fn ->
             GenRegistry.to_list(@registry)
           end)
         end},
        {"a storm", &storm/0}
      ]
  end

  defp under_64_kb do
    [
      {"a small one", 17},
      {"60 KB", :binary.copy("x", 60_000)},
      {"8,000 integers", Enum.to_list(1..8_000)},
      {"250 numbers of 1,000 bits", for(n <- 1..250, do: (1 <<< 1_000) + n)},
      {"a map of 4,000 pairs", Map.new(1..4_000, &{&1, &1})},
      {"30 nested maps",
       Enum.reduce(1..30, %{}, fn _, inner ->
         Map.put(Map.new(1..100, &{&1, &1}), :inner, inner)
       end)},
      {"2,500 small maps", for(n <- 1..2_500, do: %{n => n})},
      {"8,000 references", for(_ <- 1..8_000, do: make_ref())},
      {"8,000 integers under 33 lists", Terms.nest(Enum.to_list(1..8_000), :list, 33)},
      {"60 KB of bits", <<0::size(479_999)>>},
      {"a fun", Terms.closure(Enum.to_list(1..4_000))},
      {"a number of 60,000 bytes", 1 <<< 480_000}
    ]
  end

  defp reads do
    [
      {"lookups", &({:error, :not_found} = GenRegistry.lookup(@registry, &1))},
      {"stops", &({:error, :not_found} = GenRegistry.stop(@registry, &1))},
      {"lookups of 20", &([] = GenRegistry.lookup_many(@registry, List.duplicate(&1, 20)))},
      {"starts and stops", &come_and_go/1}
    ]
  end

  defp come_and_go(id) do
    {:ok, _} = GenRegistry.start(@registry, id)
    {:ok, _} = GenRegistry.lookup(@registry, id)
    :ok = GenRegistry.stop(@registry, id)
  end

  defp guest(id) do
    {:ok, guest} = IdleWorker.start_link()
    :yes = GenRegistry.register_name({@registry, id}, guest)
    Process.unlink(guest)
    Process.exit(guest, :kill)
  end

  # Made once: to make one takes long itself. The library copies it each time, nothing else does.
  defp large(bytes) do
    with nil <- :persistent_term.get({__MODULE__, bytes}, nil) do
      binary = :binary.copy("x", bytes)
      :persistent_term.put({__MODULE__, bytes}, binary)
      binary
    end
  end

  defp milliseconds, do: round(1_000 * String.to_float(System.get_env("SECONDS", "0.2")))

  # In a process that does nothing else.
  defp loop(fun) do
    ends_at = System.monotonic_time(:millisecond) + milliseconds()
    Task.await(Task.async(fn -> until(ends_at, fun) end), :infinity)
  end

  defp until(ends_at, fun) do
    # Not each time, for it takes longer than a lookup.
    for _ <- 1..20, do: fun.()
    if System.monotonic_time(:millisecond) < ends_at, do: until(ends_at, fun)
  end

  defp exits(ids) do
    workers = Enum.map(ids, &elem({:ok, _} = GenRegistry.start(@registry, &1), 1))
    for process <- Process.list(), do: :erlang.garbage_collect(process)
    Enum.each(workers, &kill/1)
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
  end

  # What is done while such ids live.
  defp beside(ids, fun) do
    workers = Enum.map(ids, &elem({:ok, _} = GenRegistry.start(@registry, &1), 1))
    Task.await(Task.async(fun), :infinity)
    Enum.each(workers, &kill/1)
  end

  defp storm do
    ends_at = System.monotonic_time(:millisecond) + 2 * milliseconds()

    1..4
    |> Enum.map(fn _ -> Task.async(fn -> until(ends_at, &act/0) end) end)
    |> Task.await_many(:infinity)

    for {_, pid} <- GenRegistry.to_list(@registry), do: kill(pid)
  end

  defp act do
    n = :rand.uniform(20)
    id = {n, large(Enum.at(@sizes, rem(n, length(@sizes))))}

    case :rand.uniform(4) do
      1 -> GenRegistry.lookup(@registry, id)
      2 -> GenRegistry.stop(@registry, id)
      3 -> with {:ok, pid} <- GenRegistry.lookup(@registry, id), do: Process.exit(pid, :kill)
      4 -> GenRegistry.lookup_or_start(@registry, id)
    end
  end
end

Schedulers.run()
