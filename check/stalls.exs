# The longest stay in the NIF at very many entries, in the thread's CPU time, by the points in the
# code that `Native.door_points/0` tells of; and a heartbeat beside it all, on one scheduler, by the
# phases of what is done.
#
# The machine's own doings, of some milliseconds each and now and then of some tens, are in a thread's
# time, even in that of one which only reads the clock. So in between, as long in all, a call is made
# that only has the system map some memory, writes it, and gives it back: at "nothing". What is long
# there is the machine's. Elsewhere there may be as many long stays as that leads to expect. A part of
# the table that grows takes half a millisecond, so what slows that down by half makes a long stay of it
# and none of a "nothing". But what is slow by itself is so each time, in the same place: so the best of
# some rounds counts, of each point and of each phase, until there is one of each without a fault.
#
# Ids of a megabyte take long where a dirty scheduler looks at them: the points of what does so are not
# looked at for those, but for the heartbeat, and for what frees them.
#
#   ENTRIES=1000000 MEGABYTES=300 check/run stalls +S 1:1
#
# What has to be done for ten million entries is done in calls from Elixir, one for each, as the
# library does it: the entries' processes are only made up.

defmodule Stalls do
  alias GenRegistry.{Native, Table}

  @compile {:no_warn_undefined, Native}

  @late 10_000_000
  # What takes an id, or gives one.
  @dirty ~w(door_insert lookup lookup_id retire)
  @most_rounds 8

  def run do
    1 = System.schedulers_online()
    entries = Check.setting("ENTRIES", 10_000_000)

    best =
      for {shape, id, entries} <- shapes(entries),
          {rounds, best} = rounds(shape, id, entries, 1, %{}),
          measured <- best,
          do: {rounds, shape, measured}

    longest = for({_, _, {{:point, _}, {_, _, longest}}} <- best, do: longest) |> Enum.max()
    gap = for({_, _, {{:phase, _}, gap}} <- best, do: gap) |> Enum.max()
    rounds = for({rounds, _, _} <- best, do: rounds) |> Enum.max()

    Check.figure(
      "longest stay: #{milliseconds(longest)}; longest time between heartbeats: " <>
        "#{milliseconds(gap)}; the best of up to #{rounds} rounds, at #{entries} entries"
    )

    Check.finish(
      for {_, shape, measured} <- best, not fine?(measured), do: failure(shape, measured)
    )
  end

  defp rounds(shape, id, entries, count, best) do
    best = Map.merge(best, round(shape, id, entries), fn _, one, other -> min(one, other) end)

    if count == @most_rounds or Enum.all?(best, &faultless?/1),
      do: {count, best},
      else: rounds(shape, id, entries, count + 1, best)
  end

  defp faultless?({{:point, _}, {_, long, _}}), do: long == 0
  defp faultless?(phase), do: fine?(phase)

  # What of a point is beyond what is expected by chance, how many stays were long, and the longest.
  defp fine?({{:point, _}, {beyond, _, _}}), do: beyond == 0
  defp fine?({{:phase, _}, gap}), do: gap <= @late

  defp failure(shape, {{:point, point}, {_, long, longest}}) do
    "#{shape}: #{point} is long too often, #{long} times, up to #{milliseconds(longest)}"
  end

  defp failure(shape, {{:phase, phase}, gap}) do
    "#{shape}: in #{phase}, a heartbeat took #{milliseconds(gap)}"
  end

  defp round(shape, id, entries) do
    Native.door_watch(true)

    heart =
      :erlang.spawn_opt(fn -> beat("begin", Native.door_cpu_time(), %{}) end, priority: :max)

    steps(shape, id, entries, heart)
    send(heart, {:gaps, self()})
    gaps = receive do: ({:gaps, gaps} -> gaps)

    for {phase, gap} <- gaps,
        do: IO.puts("#{shape}: #{phase}: longest time between heartbeats: #{milliseconds(gap)}")

    points = report(shape)

    points =
      if shape == "megabyte",
        do: Map.drop(points, for(p <- @dirty, do: {:point, p})),
        else: points

    Native.door_watch(false)
    Map.merge(points, Map.new(gaps, fn {phase, gap} -> {{:phase, phase}, gap} end))
  end

  defp shapes(entries) do
    [
      {"integer", & &1, entries},
      {"UUID", &uuid/1, entries},
      {"megabyte", &megabyte/1, Check.setting("MEGABYTES", 300)}
    ]
  end

  defp megabyte(n), do: <<n::64, 0::size(8_000_000)>>

  # 36 bytes that look like a UUID's.
  defp uuid(n) do
    <<a::binary-8, b::binary-4, c::binary-4, d::binary-4, e::binary-12>> =
      Base.encode16(:erlang.md5(<<n::64>>), case: :lower)

    <<a::binary, ?-, b::binary, ?-, c::binary, ?-, d::binary, ?-, e::binary>>
  end

  # In a process of its own, so that its end ends the registry.
  defp steps(shape, id, entries, heart) do
    {owner, monitor} =
      spawn_monitor(fn ->
        name = Module.concat(__MODULE__, shape)
        phase(heart, "growth")
        registry = Table.open(name, :infinity)
        each(entries, &(true = Native.door_insert(registry, id.(&1), &1)))
        memory = :erlang.memory(:system)
        IO.puts("#{shape}: #{entries} entries; #{div(memory, entries)} bytes of the VM for each")
        phase(heart, "reads")
        each(div(entries, 10), &({:ok, _} = Table.lookup(name, id.(&1 * 7))))
        each(1_000, fn _ -> {_, _} = Table.sample(name) end)
        each(1_000, fn _ -> ^entries = Table.count(name) end)
        ^entries = Table.reduce_chunks(name, 0, &(length(&1) + &2))
        # Some come and go while it is full.
        phase(heart, "coming and going")
        each(div(entries, 10), &come_and_go(registry, id, entries, &1))
        # Half are stopped, and end later.
        phase(heart, "retirement")
        each(div(entries, 2), &({_, _} = Native.retire(registry, id.(div(entries, 2) + &1))))
        # Half go one by one, the others after their registry.
        phase(heart, "removal")
        each(div(entries, 2), &Native.door_down(registry, &1))
        phase(heart, "close and reopen")
        Table.close(registry)
        next = Table.open(name, :infinity)
        each(entries, &Native.door_down(registry, &1))
        Table.close(next)
      end)

    receive do: ({:DOWN, ^monitor, _, ^owner, reason} -> :normal = reason)
    # By the library's own thread, which is no scheduler.
    phase(heart, "collection")
    each(100_000, fn _ -> :ok end)
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

  # What `faultless?/1` and `fine?/1` have of each point.
  defp report(shape) do
    {[{_, _, time, by_chance, longest}], points} =
      Enum.split_with(Native.door_points(), &match?({"nothing", _, _, _, _}, &1))

    measured =
      for {point, passes, total, long, longest} <- points do
        # Of chance events, hardly ever more than three deviations beyond what is expected.
        expected = by_chance * total / time
        most = floor(expected + 3 * :math.sqrt(expected))

        IO.puts(
          "#{shape}: #{point}: #{long} long of #{passes}, at most #{most} by chance; " <>
            "the longest #{milliseconds(longest)}, all #{milliseconds(total)}"
        )

        {{:point, point}, {max(long - most, 0), long, longest}}
      end

    IO.puts(
      "#{shape}: nothing: #{by_chance} long; the longest #{milliseconds(longest)}, " <>
        "all #{milliseconds(time)}"
    )

    Map.new(measured)
  end

  defp milliseconds(nanoseconds), do: "#{Float.round(nanoseconds / 1.0e6, 3)} ms"

  defp phase(heart, phase) do
    send(heart, {:phase, phase, self()})
    receive do: (:go -> :ok)
  end

  # The scheduler's thread may have had no processor for a while, but that is no fault of what runs on
  # it: so its time is what counts.
  defp beat(phase, last, gaps) do
    message =
      receive do
        message -> message
      after
        1 -> :beat
      end

    now = Native.door_cpu_time()
    gaps = Map.update(gaps, phase, now - last, &max(&1, now - last))

    case message do
      :beat ->
        beat(phase, now, gaps)

      {:phase, next, from} ->
        send(from, :go)
        beat(next, now, gaps)

      {:gaps, from} ->
        send(from, {:gaps, gaps})
    end
  end
end

Stalls.run()
