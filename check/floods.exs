# Ids that were sought out to collide in ETS's hash, which has a fixed salt: lookups of them beside
# lookups of others, in ETS and in ours. And that the same ids lie in another order in each VM.
#
#   IDS=2000 check/run floods

defmodule Floods do
  alias GenRegistry.{Native, Table}

  @compile {:no_warn_undefined, Native}

  @bar 1.3
  @rounds 15

  def run do
    count = Check.setting("IDS", 16_000)
    # As many low bits as ETS goes by when its table holds so many.
    bits = count |> :math.log2() |> ceil()
    mined = Native.door_mine(count, bits, 1)
    # Of the same kind and range, not sought out.
    others = Enum.take_random(1..List.last(mined), count)

    slowdowns =
      for {where, lookups} <- [{"ETS", &ets/1}, {"ours", &ours/1}], into: %{} do
        times = for ids <- [mined, others], do: {lookups.(ids), ids}
        {where, slowdown(where, times)}
      end

    orders = for _ <- 1..2, do: order_elsewhere()
    differ? = orders |> Enum.uniq() |> length() == 2

    Check.figure(
      "#{count} ids that collide in ETS slow its lookups #{round(slowdowns["ETS"])} times, and ours " <>
        "#{Float.round(slowdowns["ours"], 2)} times; the seed of another VM " <>
        if(differ?, do: "differs", else: "is the same")
    )

    Check.finish(
      for {what, true} <- [
            {"ours is slower by more than #{@bar}", slowdowns["ours"] > @bar},
            {"ETS is not slow: these ids show nothing", slowdowns["ETS"] < 10},
            {"two VMs have one seed", not differ?}
          ],
          do: what
    )
  end

  defp ets(ids) do
    table = :ets.new(__MODULE__, [:set, read_concurrency: true])
    for id <- ids, do: :ets.insert(table, {id, self()})
    fn id -> [_] = :ets.lookup(table, id) end
  end

  defp ours(ids) do
    name = Module.concat(__MODULE__, "Table#{System.unique_integer([:positive])}")
    table = Table.open(name, :infinity)
    for {id, n} <- Enum.with_index(ids), do: true = Native.door_insert(table, id, n)
    fn id -> {:ok, _} = Table.lookup(name, id) end
  end

  # In turn, so that whatever else the machine does meets both; the medians.
  defp slowdown(where, [{mined, mined_ids}, {others, other_ids}]) do
    pairs =
      for _ <- 1..@rounds do
        {each(mined, mined_ids), each(others, other_ids)}
      end

    {mined, others} = Enum.unzip(pairs)
    {mined, others} = {median(mined), median(others)}
    IO.puts("#{where}: #{round(others)} ns for others, #{round(mined)} ns for those")
    mined / others
  end

  # Nanoseconds of the thread's CPU time for a lookup.
  defp each(lookup, ids) do
    ids = Enum.take_random(ids, 1_000)
    begun = Native.door_cpu_time()
    for _ <- 1..5, id <- ids, do: lookup.(id)
    (Native.door_cpu_time() - begun) / 5_000
  end

  defp median(numbers), do: numbers |> Enum.sort() |> Enum.at(div(@rounds, 2))

  # The order in which the table of another VM has some ids, which is that of their hashes.
  defp order_elsewhere do
    {:ok, vm} = OtherVM.start_link()

    order =
      OtherVM.eval(
        vm,
        quote do
          Process.register(self(), Floods)
          table = GenRegistry.Table.open(Floods, :infinity)

          # A process of its own for each.
          for n <- 1..100 do
            pid = spawn(fn -> Process.sleep(:infinity) end)
            :ok = GenRegistry.Table.register(table, n, pid, nil)
          end

          GenRegistry.Table.reduce_chunks(Floods, [], fn entries, ids ->
            Enum.map(entries, &elem(&1, 0)) ++ ids
          end)
        end
      )

    100 = length(order)
    :peer.stop(vm)
    order
  end
end

Floods.run()
