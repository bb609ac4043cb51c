defmodule GenRegistry.ScheduleTest do
  @moduledoc """
  The rules of `GenRegistry.Schedule`. Each has an example; random sequences check them all, after
  every step, in a small world that does what the schedule says.

    1. At most `max_starting` starts run, but for nested ones, and no place is free while one waits.
    2. An id has one start at most, and none while it is stopped or cleared.
    3. A running start has one starter, which is busy with nothing else. A new starter is made only
       when none is idle.
    4. All who wait for a start that succeeds are answered, each in its own way: `{:ok, pid}`,
       `{:error, {:already_started, pid}}` or `:no`; up to the first stop, and only if the worker is
       alive. So are those behind a guest, who has the id, or is not stopped.
    5. Whoever waits is answered, and nobody twice. (But a worker that stops itself in its init: it
       is answered at once, and again when it is gone.)
    6. Starts have their turn in order of arrival. A failed start leaves its place to the next one
       in its line.
    7. A start that fails fails for its own caller only: the next one's is tried, with its own args.
    8. A dead starter's request fails, and what it left is cleared away before its id goes on.
    9. Who gave up or died before its turn starts nothing. What was begun goes on; so do stops.
    10. Those who wait in a worker's init do not wait for a place.
    11. Stops are answered `:ok` once the worker is gone, or `{:error, :not_found}`, or
        `{:error, :not_supervised}`. Stops of one id with nothing between them are one stop.
    12. Strangers' messages and late ones change nothing.
    13. Where there is no room for a start, it fails for its own caller, and its starter is idle.
    14. A guest is given an id in its turn, without a place, and only if nothing runs or ends for the
        id and it has no process; but at once what is being started for it.
    15. When all starts and stops are over, nothing is left.
  """

  use ExUnit.Case, async: true

  alias GenRegistry.Schedule

  # Callers, starters and workers are names here: the schedule only compares them.
  defp new(max_starting), do: Schedule.new(max_starting, &ScheduleWorld.waiting?/1)
  defp from(caller), do: {caller, :tag}
  defp lookup_or_start(caller), do: {:lookup_or_start, from(caller), [caller]}
  defp start(caller), do: {:start, from(caller), [caller]}
  defp stop(caller), do: {:stop, from(caller)}
  defp register(caller, parent \\ nil), do: {:register, from(caller), caller, parent}

  # A schedule in which each of these ids is asked for, and starters are given as they are wanted:
  # `:s1` to the first and so on.
  defp asked(schedule, requests) do
    Enum.reduce(requests, schedule, fn {id, request}, schedule ->
      {schedule, actions} = Schedule.request(schedule, id, request)
      assign(schedule, actions)
    end)
  end

  defp assign(schedule, actions) do
    for {:start, :new, id, _} <- actions, reduce: schedule do
      schedule ->
        Schedule.assigned(schedule, id, :"s#{length(elem(Schedule.starters(schedule), 1)) + 1}")
    end
  end

  test "places are bounded, and given in order of arrival" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2), c: start(:c3))
    assert schedule.running == 1 and Schedule.starters(schedule) == {[], [:s1]}

    assert {schedule, [{:start, :s1, :b, _}]} =
             Schedule.started(schedule, :s1, :a, {:ok, :w1}, true)

    assert {schedule, [{:start, :s1, :c, _}]} =
             Schedule.started(schedule, :s1, :b, {:ok, :w2}, true)

    assert {schedule, []} = Schedule.started(schedule, :s1, :c, {:ok, :w3}, true)
    assert {schedule.flights, schedule.running} == {%{}, 0}
    assert Schedule.starters(schedule) == {[:s1], []}
  end

  test "a start answers all who wait for it, each in its own way, up to the first stop" do
    line = [a: start(:c1), a: start(:c2), a: lookup_or_start(:c3), a: stop(:c4), a: start(:c5)]

    assert {schedule, actions} = Schedule.started(asked(new(2), line), :s1, :a, {:ok, :w}, true)

    assert actions == [
             {:reply, from(:c2), {:error, {:already_started, :w}}},
             {:reply, from(:c3), {:ok, :w}},
             {:stop, :a}
           ]

    assert {_, [{:reply, {:c4, _}, :ok}, {:start, :s1, :a, {:start, {:c5, _}, _}}]} =
             Schedule.stopped(schedule, :a, :ok)
  end

  test "a failed start, or a worker that is dead by now, lets the next one try with its own args" do
    for {outcome, alive?} <- [{{:error, :failed}, false}, {{:ok, :w}, false}] do
      schedule = asked(new(1), a: start(:c1), a: start(:c2), b: start(:c3))
      second = start(:c2)

      assert {schedule, [{:start, :s1, :a, ^second}]} =
               Schedule.started(schedule, :s1, :a, outcome, alive?)

      assert schedule.running == 1
    end
  end

  test "without a new starter, a start fails for its own caller" do
    {schedule, [{:start, :new, :a, _}]} = Schedule.request(new(1), :a, start(:c1))
    assert {schedule, [reply]} = Schedule.not_assigned(schedule, :a, :no_more)
    assert reply == {:reply, from(:c1), {:error, :no_more}}
    assert {schedule.flights, schedule.running} == {%{}, 0}
  end

  test "where there is no room, a start fails for its own caller, and its starter is idle" do
    schedule = asked(new(1), a: start(:c1), a: stop(:c2), b: start(:c3))
    assert {schedule, actions} = Schedule.refused(schedule, :a, :s1, :full)

    # Each who waits has its own try.
    assert [{:reply, {:c1, _}, {:error, :full}}, {:stop, :a}, {:start, :s1, :b, _}] = actions
    assert {schedule, [reply]} = Schedule.refused(schedule, :b, :s1, :full)
    assert reply == {:reply, from(:c3), {:error, :full}}
    assert schedule.running == 0
    assert Schedule.starters(schedule) == {[:s1], []}
  end

  test "what a dead starter left is cleared away before its id goes on; others do not wait" do
    schedule = asked(new(1), a: start(:c1), a: start(:c2), b: start(:c3))

    assert {schedule, actions} = Schedule.starter_died(schedule, :s1, :killed)

    assert [
             {:reply, {:c1, _}, {:error, {:starter_died, :killed}}},
             {:clear, :s1, :a},
             {:start, :new, :b, _}
           ] = actions

    schedule = schedule |> assign(actions) |> asked(c: start(:c4))
    assert {schedule, [_probe]} = Schedule.stopped(schedule, :a, :ok)

    assert {_, [{:start, :s1, :c, _}]} = Schedule.started(schedule, :s1, :b, {:ok, :w}, true)
  end

  test "who gave up or died before its turn starts nothing" do
    schedule = asked(new(1), a: start(:c1), b: start(:gone), b: start(:c2), c: start(:dead))
    {schedule, []} = Schedule.gave_up(schedule, :b, :gone)
    ScheduleWorld.die(:dead)

    assert {schedule, [{:start, :s1, :b, {:start, {:c2, _}, _}}]} =
             Schedule.started(schedule, :s1, :a, {:ok, :w1}, true)

    assert {%{flights: flights}, []} = Schedule.started(schedule, :s1, :b, {:ok, :w2}, true)
    assert flights == %{}
  end

  test "what was begun goes on without its caller, and so do stops" do
    schedule = asked(new(1), a: start(:c1), a: stop(:c2))
    {schedule, []} = Schedule.gave_up(schedule, :a, :c1)
    {schedule, []} = Schedule.gave_up(schedule, :a, :c2)
    assert {_, [{:stop, :a}]} = Schedule.started(schedule, :s1, :a, {:ok, :w}, true)
  end

  test "those in a worker's init do not wait for a place" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2))

    assert {schedule, [{:probe, :b, {:init, _}}]} =
             Schedule.request(schedule, :b, lookup_or_start(:init))

    assert {schedule, [{:start, :new, :b, {:start, {:c2, _}, _}}]} =
             Schedule.nested(schedule, :b, from(:init), :s1)

    assert schedule.running == 1
  end

  test "who died starts nothing by a nested caller's turn either" do
    schedule = asked(new(1), a: start(:c1), b: start(:dead), b: start(:init))
    ScheduleWorld.die(:dead)

    assert {_, [{:start, :new, :b, {:start, {:init, _}, _}}]} =
             Schedule.nested(schedule, :b, from(:init), :s1)
  end

  test "a worker may stop itself in its init" do
    {schedule, [{:probe, :a, from}]} =
      Schedule.request(asked(new(1), a: start(:c1)), :a, stop(:init))

    assert {schedule, [{:reply, ^from, :ok}]} = Schedule.nested(schedule, :a, from, :s1)
    assert {_, [{:stop, :a}]} = Schedule.started(schedule, :s1, :a, {:ok, :w}, true)
  end

  test "stops with nothing between them are one stop, with one answer" do
    for answer <- [:ok, {:error, :not_found}] do
      assert {schedule, [{:stop, :a}]} = Schedule.request(new(1), :a, stop(:c1))
      assert {schedule, []} = Schedule.request(schedule, :a, stop(:c2))
      assert {schedule, replies} = Schedule.stopped(schedule, :a, answer)
      assert replies == [{:reply, from(:c1), answer}, {:reply, from(:c2), answer}]
      assert schedule.flights == %{}
    end
  end

  test "a guest is given an id that is free, without a place" do
    schedule = asked(new(1), a: start(:c1))
    guest = register(:guest)
    assert {schedule, [{:register, :b, ^guest}]} = Schedule.request(schedule, :b, guest)
    assert {schedule, [{:reply, from, :yes}]} = Schedule.registered(schedule, :b, guest, true)
    assert from == from(:guest)
    assert Map.keys(schedule.flights) == [:a]
  end

  test "a guest has its turn, and those behind it get it, up to a stop that does not end it" do
    line = [
      start(:c1),
      register(:guest),
      lookup_or_start(:c2),
      register(:c3),
      stop(:c4),
      start(:c5)
    ]

    schedule = asked(new(1), for(request <- line, do: {:a, request}))
    guest = register(:guest)

    assert {schedule, [{:register, :a, ^guest}]} =
             Schedule.started(schedule, :s1, :a, {:error, :failed}, false)

    assert {schedule, actions} = Schedule.registered(schedule, :a, guest, true)

    assert actions == [
             {:reply, from(:guest), :yes},
             {:reply, from(:c2), {:ok, :guest}},
             {:reply, from(:c3), :no},
             {:stop, :a}
           ]

    assert {%{flights: flights}, actions} = Schedule.not_supervised(schedule, :a, :guest)

    assert actions == [
             {:reply, from(:c4), {:error, :not_supervised}},
             {:reply, from(:c5), {:error, {:already_started, :guest}}}
           ]

    assert flights == %{}
  end

  test "a guest that cannot have the id, or waits no more, leaves it to the next one" do
    line = [start(:c1), register(:gone), register(:dead), register(:guest), start(:c2)]
    schedule = asked(new(1), for(request <- line, do: {:a, request}))
    {schedule, []} = Schedule.gave_up(schedule, :a, :gone)
    ScheduleWorld.die(:dead)
    guest = register(:guest)

    assert {schedule, [{:register, :a, ^guest}]} =
             Schedule.started(schedule, :s1, :a, {:error, :failed}, false)

    assert {_, [{:reply, from, :no}, {:start, :s1, :a, {:start, {:c2, _}, _}}]} =
             Schedule.registered(schedule, :a, guest, false)

    assert from == from(:guest)
  end

  test "where the first in a queued line gives up, a guest behind it needs no place" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2), b: register(:guest), c: start(:c3))
    guest = register(:guest)
    assert {schedule, [{:register, :b, ^guest}]} = Schedule.gave_up(schedule, :b, :c2)
    assert {schedule, [_reply]} = Schedule.registered(schedule, :b, guest, true)

    assert {_, [{:start, :s1, :c, _}]} = Schedule.started(schedule, :s1, :a, {:ok, :w}, true)
  end

  test "a guest that waits no more does not take the place of the start behind it" do
    line = [b: start(:c2), b: register(:dead), b: start(:c3), c: start(:c4)]
    schedule = asked(new(1), [{:a, start(:c1)} | line])
    ScheduleWorld.die(:dead)
    assert {schedule, []} = Schedule.gave_up(schedule, :b, :c2)

    assert {_, [{:start, :s1, :b, {:start, {:c3, _}, _}}]} =
             Schedule.started(schedule, :s1, :a, {:ok, :w}, true)
  end

  test "what is being started is given its name at once, and the start goes on" do
    schedule = asked(new(1), a: start(:c1), a: lookup_or_start(:c2))
    own = register(:init, :s1)
    assert {schedule, [{:register, :a, ^own}]} = Schedule.request(schedule, :a, own)
    assert {schedule, [{:reply, from, :yes}]} = Schedule.registered(schedule, :a, own, true)
    assert from == from(:init)

    # Also if it has to be found out.
    own = register(:init)
    assert {schedule, [{:probe, :a, from}]} = Schedule.request(schedule, :a, own)
    assert {schedule, [{:register, :a, ^own}]} = Schedule.nested(schedule, :a, from, :s1)
    assert {schedule, [{:reply, _, :no}]} = Schedule.registered(schedule, :a, own, false)
    assert {schedule, []} = Schedule.nested(schedule, :a, from, :s1)

    # Another's start is waited for.
    assert {schedule, [_probe]} = Schedule.request(schedule, :a, register(:other, :s2))

    assert {_, [{:reply, {:c2, _}, {:ok, :init}}, {:reply, {:other, _}, :no}]} =
             Schedule.started(schedule, :s1, :a, {:ok, :init}, true)
  end

  test "strangers change nothing" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2))
    assert Schedule.started(schedule, :stranger, :a, {:ok, :w}, true) == {schedule, []}
    assert Schedule.started(schedule, :s1, :b, {:ok, :w}, true) == {schedule, []}
    assert Schedule.starter_died(schedule, :stranger, :killed) == {schedule, []}
    assert Schedule.stopped(schedule, :a, :ok) == {schedule, []}
    assert Schedule.stopped(schedule, :c, :ok) == {schedule, []}
    assert Schedule.gave_up(schedule, :c, :c1) == {schedule, []}
    assert Schedule.nested(schedule, :c, from(:c1), :s1) == {schedule, []}
    # Who does not wait for this id, or does so no more.
    assert Schedule.nested(schedule, :b, from(:stranger), :s1) == {schedule, []}
  end

  @sequences 600
  @steps 150

  test "random sequences keep to all rules" do
    # The seed of the whole run: `mix test --seed` repeats it.
    base = ExUnit.configuration()[:seed]

    seen =
      for n <- 1..@sequences, reduce: MapSet.new() do
        seen -> MapSet.union(seen, run({base, n}))
      end

    # Or else the test would mean little.
    for event <- ScheduleWorld.events(),
        do: assert(event in seen, "#{inspect(event)} never happened")
  end

  defp run({base, n} = seed) do
    :rand.seed(:exsss, {base, n, 0})
    Process.put(:history, [])
    Process.put(:seen, MapSet.new())
    Process.put(:dead, MapSet.new())

    try do
      1..@steps
      |> Enum.reduce(ScheduleWorld.new(:rand.uniform(3)), fn _, world ->
        ScheduleWorld.step(world)
      end)
      |> ScheduleWorld.finish()
    catch
      kind, error ->
        history = Process.get(:history) |> Enum.take(30) |> Enum.reverse()

        flunk("""
        seed #{inspect(seed)}: #{Exception.format(kind, error, __STACKTRACE__)}
        The last of what happened:
        #{Enum.map_join(history, "\n", &inspect/1)}
        """)
    end

    Process.get(:seen)
  end
end
