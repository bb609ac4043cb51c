# The longest stay in the NIF at very many entries, in the thread's CPU time, by the points in the
# code that `Native.door_points/0` tells of; and a heartbeat beside it all, on one scheduler.
#
# The machine's own doings, of up to some milliseconds each, are in a thread's time. So in between, as
# long in all, a call is made that only has the system map some memory, writes it, and gives it back: at
# "nothing". What is long there is the machine's. Elsewhere there may be as many long stays as that leads
# to expect, or one, and more in one of two rounds: what is slow by itself is so each time, and a table of
# that size has a thousand parts that grow and shrink. A heartbeat may be as late as where ETS has the
# entries.
#
#   ENTRIES=1000000 check/run stalls +S 1:1
#
# What has to be done for ten million entries is done in calls from Elixir, one for each, as the
# library does it: the entries' processes are only made up.

defmodule Stalls do
  alias GenRegistry.{Native, Table}

  @compile {:no_warn_undefined, Native}

  @late 10_000_000

  def run do
    1 = System.schedulers_online()
    entries = Check.setting("ENTRIES", 10_000_000)

    {longs, gaps, failures} =
      for({shape, id} <- shapes(), do: rounds(shape, id, entries)) |> unzip()

    {own, ets} = Enum.max(gaps)

    Check.figure(
      "stays over a millisecond: #{Enum.sum(longs)}; longest time between heartbeats: " <>
        "#{milliseconds(own)}, with ETS in its place: #{milliseconds(ets)}; in the better of two " <>
        "rounds each, at #{entries} entries"
    )

    late =
      for {own, ets} <- gaps, own > max(@late, ets), do: "a heartbeat took #{milliseconds(own)}"

    Check.finish(Enum.concat(failures) ++ late)
  end

  # What happens in one round only has come from elsewhere.
  defp rounds(shape, id, entries) do
    {longs, gaps, failures} = for(_ <- 1..2, do: round(shape, id, entries)) |> unzip()
    [first, second] = failures
    {own, ets} = Enum.unzip(gaps)
    {Enum.min(longs), {Enum.min(own), Enum.min(ets)}, Enum.filter(first, &(&1 in second))}
  end

  defp round(shape, id, entries) do
    ets = longest_gap("#{shape}, ETS", fn -> ets_steps(id, entries) end)
    Native.door_watch(true)
    own = longest_gap(shape, fn -> steps(shape, id, entries) end)
    {long, failures} = report(shape)
    Native.door_watch(false)
    {long, {own, ets}, failures}
  end

  defp longest_gap(what, steps) do
    heart = :erlang.spawn_opt(fn -> beat(Native.door_cpu_time(), 0) end, priority: :max)
    steps.()
    send(heart, {:longest, self()})
    gap = receive do: ({:gap, gap} -> gap)
    IO.puts("#{what}: longest time between heartbeats: #{milliseconds(gap)}")
    gap
  end

  defp unzip(triples) do
    List.to_tuple(for n <- 0..2, do: Enum.map(triples, &elem(&1, n)))
  end

  defp shapes do
    [
      {"integer", & &1},
      {"UUID", &uuid/1}
    ]
  end

  # 36 bytes that look like a UUID's.
  defp uuid(n) do
    <<a::binary-8, b::binary-4, c::binary-4, d::binary-4, e::binary-12>> =
      Base.encode16(:erlang.md5(<<n::64>>), case: :lower)

    <<a::binary, ?-, b::binary, ?-, c::binary, ?-, d::binary, ?-, e::binary>>
  end

  # In a process of its own, so that its end ends the registry.
  defp steps(shape, id, entries) do
    {owner, monitor} =
      spawn_monitor(fn ->
        name = Module.concat(__MODULE__, shape)
        registry = Table.open(name, :infinity)
        each(entries, &(true = Native.door_insert(registry, id.(&1), &1)))
        memory = :erlang.memory(:system)
        IO.puts("#{shape}: #{entries} entries; #{div(memory, entries)} bytes of the VM for each")
        each(div(entries, 10), &({:ok, _} = Table.lookup(name, id.(&1 * 7))))
        each(1_000, fn _ -> {_, _} = Table.sample(name) end)
        each(1_000, fn _ -> ^entries = Table.count(name) end)
        ^entries = Table.reduce_chunks(name, 0, &(length(&1) + &2))
        # Some come and go while it is full.
        each(div(entries, 10), &come_and_go(registry, id, entries, &1))
        # Half go one by one, the others after their registry.
        each(div(entries, 2), &Native.door_down(registry, &1))
        Table.close(registry)
        next = Table.open(name, :infinity)
        each(entries, &Native.door_down(registry, &1))
        Table.close(next)
      end)

    receive do: ({:DOWN, ^monitor, _, ^owner, reason} -> :normal = reason)
    each(100_000, fn _ -> Native.door_collect() end)
  end

  # The memory that is taken for the first time, or again, is the machine's to find: that takes time of
  # the thread's too, with whatever a large table is made of.
  defp ets_steps(id, entries) do
    {owner, monitor} =
      spawn_monitor(fn ->
        table = :ets.new(__MODULE__, [:public, read_concurrency: true])
        each(entries, &:ets.insert(table, {id.(&1), self()}))
        each(div(entries, 2), &:ets.delete(table, id.(&1)))
      end)

    receive do: ({:DOWN, ^monitor, _, ^owner, reason} -> :normal = reason)
  end

  defp come_and_go(registry, id, entries, n) do
    Native.door_down(registry, n)
    true = Native.door_insert(registry, id.(entries + n), n)
  end

  defp each(0, _fun), do: :ok

  defp each(n, fun) do
    fun.(n)
    if rem(n, 128) == 0, do: Native.door_nothing()
    # What is looked at takes some microseconds more, which the VM does not know of.
    :erlang.bump_reductions(5)
    each(n - 1, fun)
  end

  # How many stays were long, and where there were too many.
  defp report(shape) do
    {[{_, _, time, by_chance, longest}], points} =
      Enum.split_with(Native.door_points(), &match?({"nothing", _, _, _, _}, &1))

    reports =
      for {point, passes, total, long, longest} <- points do
        # Of chance events, hardly ever more than three deviations beyond what is expected.
        expected = by_chance * total / time
        most = max(1, floor(expected + 3 * :math.sqrt(expected)))

        IO.puts(
          "#{shape}: #{point}: #{long} long of #{passes}, at most #{most} by chance; " <>
            "the longest #{milliseconds(longest)}, all #{milliseconds(total)}"
        )

        {long, if(long > most, do: ["#{shape}: #{point} is long too often"], else: [])}
      end

    IO.puts(
      "#{shape}: nothing: #{by_chance} long; the longest #{milliseconds(longest)}, " <>
        "all #{milliseconds(time)}"
    )

    {long, failures} = Enum.unzip(reports)
    {Enum.sum(long), Enum.concat(failures)}
  end

  defp milliseconds(nanoseconds), do: "#{Float.round(nanoseconds / 1.0e6, 3)} ms"

  # The scheduler's thread may have had no processor for a while, but that is no fault of what runs on
  # it: so its time is what counts.
  defp beat(last, longest) do
    receive do
      {:longest, from} -> send(from, {:gap, longest})
    after
      1 ->
        now = Native.door_cpu_time()
        beat(now, max(longest, now - last))
    end
  end
end

Stalls.run()
