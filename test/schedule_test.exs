defmodule GenRegistry.ScheduleTest do
  @moduledoc """
  The rules of `GenRegistry.Schedule`. Each has an example; random sequences check them all, after
  every step, in a small world that does what the schedule says.

    1. At most `max_starting` starts run, but for nested ones, and no place is free while one waits.
    2. An id has one start at most, and none while it is stopped or cleared.
    3. A running start has one starter, which was idle before: not one in handlers, nor a mere
       parent. It is the one that was used last. A new starter is made only when none is idle.
    4. All who wait for a start that succeeds are answered, each in its own way: `{:ok, pid}`,
       `{:error, {:already_started, pid}}` or `:no`; up to the first stop, and only if the worker is
       alive. So are those behind a guest, who has the id, or is not stopped.
    5. Whoever waits is answered, and nobody twice. (But a worker that stops itself in its init: it
       is answered at once, and again when it is gone.)
    6. Places go by the time of each request, over all ids. Where a start has failed, the next
       request of its id waits its turn among the others'.
    7. A failure of `start_link` itself is told to those who wait with equal arguments, up to the
       first stop or registration. Others have their own try, as has everybody after other failures.
    8. A dead starter's request fails, and what it left is cleared away before its id goes on.
    9. Who gave up or died before its turn starts nothing, and is named once as one to forget. What
       was begun goes on; so do stops.
    10. A request that is nested in a start takes no place and waits for none, nor do those before it
        in its line. It is not made to wait for its own start: a stop is answered, a name is given.
    11. Stops are answered `:ok` once the worker is gone, or `{:error, :not_found}`, or
        `{:error, :not_supervised}`. Stops of one id with nothing between them are one stop.
    12. Strangers' messages and late ones change nothing.
    13. Where there is no room for a start, it fails for its own caller, and its starter is idle.
    14. A guest is given an id in its turn, without a place, and only if nothing runs or ends for the
        id and it has no process; but at once what is being started for it.
    15. A place is free when a start is over, though its starter is still in handlers.
    16. Starters without workers may end, but for those that have a start, and four that are idle.
    17. When all starts and stops are over, nothing is left.
    18. A replacement ends what there is and starts another, in its turn; from its begin it goes on without its
        caller. Nobody behind it gets the old worker, or starts one in between.
  """

  use ExUnit.Case, async: true

  alias GenRegistry.{Schedule, Starters}

  # Callers, starters and workers are names here: the schedule only compares them.
  # The schedule, with free places given at once, as they are when nothing else is to be done before.
  defmodule Filled do
    for {name, arity} <- Schedule.__info__(:functions), name not in [:__struct__, :fill_places] do
      args = Macro.generate_arguments(arity, __MODULE__)

      def unquote(name)(unquote_splicing(args)),
        do: fill(Schedule.unquote(name)(unquote_splicing(args)))
    end

    defp fill({schedule, [_ | _] = actions}) do
      case List.pop_at(actions, -1) do
        {:fill_places, actions} ->
          {schedule, filled} = Schedule.fill_places(schedule)
          {schedule, actions ++ filled}

        _ ->
          {schedule, actions}
      end
    end

    defp fill(other), do: other
  end

  defp new(max_starting), do: Filled.new(max_starting, &ScheduleWorld.waiting?/1)
  defp from(caller), do: {caller, :tag}
  defp lookup_or_start(caller, key \\ nil), do: {:lookup_or_start, from(caller), key, [caller]}
  defp start(caller, key \\ nil), do: {:start, from(caller), key, [caller]}
  defp stop(caller), do: {:stop, from(caller)}
  defp register(caller, parent \\ nil), do: {:register, from(caller), caller, parent}

  # By a caller that is in no start.
  defp request(schedule, id, request), do: Filled.request(schedule, id, request, nil)

  # A schedule in which each of these ids is asked for, and starters are given as they are wanted:
  # `:s1` to the first and so on.
  defp asked(schedule, requests) do
    Enum.reduce(requests, schedule, fn {id, request}, schedule ->
      {schedule, actions} = request(schedule, id, request)
      assign(schedule, actions)
    end)
  end

  defp assign(schedule, actions) do
    for {:start, :new, id, _} <- actions, reduce: schedule do
      schedule ->
        Filled.assigned(schedule, id, :"s#{Starters.count(schedule.starters) + 1}")
    end
  end

  defp started(schedule, starter, id, pid, state \\ :idle) do
    Filled.started(schedule, starter, id, {:ok, pid}, true, state)
  end

  defp failed(schedule, starter, id, shared?) do
    Filled.started(schedule, starter, id, {:failed, :reason, shared?}, false, :idle)
  end

  # A schedule with this many idle starters, `:s1` the first of them to become idle.
  defp idle(count) do
    schedule = asked(new(count), for(n <- 1..count, do: {n, start(:c)}))

    for n <- 1..count, reduce: schedule do
      schedule -> schedule |> started(:"s#{n}", n, :w) |> elem(0)
    end
  end

  test "places are bounded, and given in order of arrival" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2), c: start(:c3))
    assert Filled.counts(schedule) == {3, 2}
    assert {schedule, [{:start, :s1, :b, _}]} = started(schedule, :s1, :a, :w1)
    assert {schedule, [{:start, :s1, :c, _}]} = started(schedule, :s1, :b, :w2)
    assert {schedule, []} = started(schedule, :s1, :c, :w3)
    assert {Filled.counts(schedule), schedule.places} == {{0, 0}, 0}
    assert Starters.next(schedule.starters) == :s1
  end

  test "a start answers all who wait for it, each in its own way, up to the first stop" do
    line = [a: start(:c1), a: start(:c2), a: lookup_or_start(:c3), a: stop(:c4), a: start(:c5)]

    assert {schedule, actions} = started(asked(new(2), line), :s1, :a, :w)

    assert actions == [
             {:reply, start(:c2), {:error, {:already_started, :w}}},
             {:reply, lookup_or_start(:c3), {:ok, :w}},
             {:stop, :a}
           ]

    assert {_, [{:reply, {:stop, {:c4, _}}, :ok}, {:start, :s1, :a, {:start, {:c5, _}, _, _}}]} =
             Filled.stopped(schedule, :a, :ok)
  end

  test "a failed start, or a worker that is dead by now, lets the next one try with its own args" do
    for outcome <- [{:failed, :reason, true}, {:failed, :reason, false}, {:ok, :w}] do
      schedule = asked(new(1), a: start(:c1, :k1), a: start(:c2, :k2), b: start(:c3))
      second = start(:c2, :k2)
      {schedule, actions} = Filled.started(schedule, :s1, :a, outcome, false, :idle)
      assert {:start, :s1, :a, second} in actions
      assert schedule.places == 1
    end
  end

  test "a failure is shared by those with equal arguments, up to a stop or a registration" do
    for barrier <- [stop(:c), register(:c)] do
      line = [
        start(:c1, :k),
        lookup_or_start(:c2, :k),
        start(:c3, :other),
        start(:c4),
        start(:c5, :k),
        barrier,
        start(:c6, :k)
      ]

      schedule = asked(new(1), for(request <- line, do: {:a, request}))
      third = start(:c3, :other)

      assert {schedule, [share, {:start, :s1, :a, ^third}]} = failed(schedule, :s1, :a, true)
      assert share == {:share, [lookup_or_start(:c2, :k), start(:c5, :k)], :reason}
      fourth = start(:c4)

      assert {schedule, [{:share, [], :reason}, {:start, :s1, :a, ^fourth}]} =
               failed(schedule, :s1, :a, true)

      # Arguments that are not compared are equal to none.
      assert {_, [{:share, [], :reason}, _barrier]} = failed(schedule, :s1, :a, true)
    end
  end

  test "a failure that is not start_link's is shared with nobody" do
    schedule = asked(new(1), a: start(:c1, :k), a: start(:c2, :k))
    second = start(:c2, :k)

    assert {_, [{:share, [], :reason}, {:start, :s1, :a, ^second}]} =
             failed(schedule, :s1, :a, false)
  end

  test "after a failure, an id's next request waits its turn among the others'" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2), a: start(:c3), c: start(:c4))

    assert {schedule, [_share, {:start, :s1, :b, _}]} = failed(schedule, :s1, :a, false)
    # It came before the one for `:c`.
    assert {schedule, [{:start, :s1, :a, _}]} = started(schedule, :s1, :b, :w)
    assert {_, [_share, {:start, :s1, :c, _}]} = failed(schedule, :s1, :a, false)
  end

  test "where the first of a line gives up, the next one's time counts" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2), c: start(:c3), b: start(:c4))
    {schedule, [{:forget, _}]} = Filled.gave_up(schedule, :b, :c2)
    assert {schedule, [{:start, :s1, :c, _}]} = started(schedule, :s1, :a, :w)
    assert {_, [{:start, :s1, :b, _}]} = started(schedule, :s1, :c, :w)
  end

  test "without a new starter, a start fails for its own caller" do
    {schedule, [{:start, :new, :a, _}]} = request(new(1), :a, start(:c1))
    assert {schedule, [reply]} = Filled.not_assigned(schedule, :a, :no_more)
    assert reply == {:reply, start(:c1), {:error, :no_more}}
    assert {Filled.counts(schedule), schedule.places} == {{0, 0}, 0}
  end

  test "a stop or a guest before a start in its line takes no turn from it", _context do
    for before <- [stop(:c2), register(:c2)] do
      schedule = new(1)
      {schedule, actions} = request(schedule, :a, start(:c1))
      schedule = assign(schedule, actions)
      schedule = asked(schedule, a: before, a: start(:c3), b: start(:c4))

      {schedule, [_share, action, :fill_places]} =
        Schedule.started(schedule, :s1, :a, {:failed, :reason, false}, false, :idle)

      {_schedule, actions} =
        if match?({:stop, _}, action),
          do: Filled.stopped(schedule, :a, {:error, :not_found}),
          else: Filled.registered(schedule, :a, before, false)

      assert [_reply, {:start, :s1, :a, {:start, {:c3, _}, _, _}}] = actions
    end
  end

  test "where there is no room, a start fails for its own caller, and its starter is idle" do
    schedule =
      asked(new(1), a: start(:c1, :k), a: stop(:c2), b: start(:c3, :k), b: start(:c4, :k))

    assert {schedule, [reply | actions]} = Filled.refused(schedule, :a, :s1, :full)
    assert reply == {:reply, start(:c1, :k), {:error, :full}}

    # Each who waits has its own try.
    assert [{:stop, :a}, {:start, :s1, :b, _}] = actions

    assert {schedule, [_reply, {:start, :s1, :b, _}]} = Filled.refused(schedule, :b, :s1, :full)
    assert {schedule, [reply]} = Filled.refused(schedule, :b, :s1, :full)
    assert reply == {:reply, start(:c4, :k), {:error, :full}}
    assert schedule.places == 0
    assert Starters.next(schedule.starters) == :s1
  end

  test "what a dead starter left is cleared away before its id goes on; others do not wait" do
    schedule = asked(new(1), a: start(:c1, :k), a: start(:c2, :k), b: start(:c3))
    assert {schedule, [reply | actions]} = Filled.starter_died(schedule, :s1, :killed)
    assert reply == {:reply, start(:c1, :k), {:error, {:starter_died, :killed}}}
    assert [{:await_sweep, :s1, :a}, {:start, :new, :b, _}] = actions

    schedule = schedule |> assign(actions) |> asked(c: start(:c4))
    assert {schedule, []} = Filled.stopped(schedule, :a, :ok)

    # It came before the one for `:c`.
    assert {_, [{:start, :s1, :a, _}]} = started(schedule, :s1, :b, :w)
  end

  test "who gave up or died before its turn starts nothing, and is forgotten" do
    line = [b: start(:gone), b: start(:c2), c: start(:dead), d: start(:dead)]
    schedule = asked(new(1), [{:a, start(:c1)} | line])
    gone = start(:gone)
    dead = start(:dead)
    assert {schedule, [{:forget, ^gone}]} = Filled.gave_up(schedule, :b, :gone)
    assert {schedule, []} = Filled.gave_up(schedule, :b, :gone)
    ScheduleWorld.die(:dead)

    assert {schedule, [{:start, :s1, :b, {:start, {:c2, _}, _, _}}]} =
             started(schedule, :s1, :a, :w1)

    assert {schedule, [{:forget, ^dead}, {:forget, ^dead}]} = started(schedule, :s1, :b, :w2)
    assert Filled.counts(schedule) == {0, 0}
    # Nor does it if there is a place at once.
    assert request(new(1), :a, dead) |> elem(1) == [{:forget, dead}]
  end

  test "what was begun goes on without its caller, and so do stops" do
    schedule = asked(new(1), a: start(:c1), a: stop(:c2))
    {schedule, []} = Filled.gave_up(schedule, :a, :c1)
    {schedule, []} = Filled.gave_up(schedule, :a, :c2)
    assert {_, [{:stop, :a}]} = started(schedule, :s1, :a, :w)
  end

  test "a request that is nested does not wait for a place" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2))

    # In a start of this registry, and of another one.
    for starter <- [:s1, :elsewhere] do
      assert {schedule, [{:start, :new, :c, _}]} =
               Filled.request(schedule, :c, start(:init), starter)

      assert {schedule.places, Filled.counts(schedule)} == {1, {3, 1}}
      schedule = assign(schedule, [{:start, :new, :c, nil}])

      # It gives no place back.
      assert {schedule, []} = started(schedule, :s2, :c, :w)
      assert schedule.places == 1
    end
  end

  test "nor do those before it in its line" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2))
    init = lookup_or_start(:init)

    assert {schedule, [{:start, :new, :b, {:start, {:c2, _}, _, _}} = start]} =
             Filled.request(schedule, :b, init, :s1)

    schedule = assign(schedule, [start])
    assert {schedule.places, Filled.counts(schedule)} == {1, {2, 0}}

    # Nor does it later, when it is its own turn.
    assert {schedule, [_share, {:start, :s2, :b, ^init}]} = failed(schedule, :s2, :b, false)
    assert {schedule, []} = started(schedule, :s2, :b, :w)
    assert schedule.places == 1
  end

  test "a start with a nested request behind it in its line does not wait for a place later" do
    line = [a: start(:c1), b: start(:c2), c: start(:c3), b: start(:c4)]
    schedule = asked(new(2), line)
    assert {schedule, []} = Filled.request(schedule, :b, register(:init), :s1)

    # The place that is free goes to another.
    assert {schedule, [_share, {:start, :s2, :b, {_, {:c4, _}, _, _}}, {:start, :new, :c, _}]} =
             failed(schedule, :s2, :b, false)

    assert schedule.places == 2
  end

  test "where the nested one gives up, those before it wait for a place again" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2))
    {schedule, [start]} = Filled.request(schedule, :b, start(:init), :s1)
    schedule = schedule |> assign([start]) |> asked(b: start(:c3))
    {schedule, [{:forget, _}]} = Filled.gave_up(schedule, :b, :init)
    assert {schedule, [_share]} = failed(schedule, :s2, :b, false)
    assert Filled.counts(schedule) == {2, 1}
  end

  test "who died starts nothing by a nested caller's turn either" do
    schedule = asked(new(1), a: start(:c1), b: start(:dead))
    ScheduleWorld.die(:dead)
    dead = start(:dead)

    assert {_, [{:forget, ^dead}, {:start, :new, :b, {:start, {:init, _}, _, _}}]} =
             Filled.request(schedule, :b, start(:init), :s1)
  end

  test "a worker may stop itself in its init" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2))
    assert {schedule, [reply]} = Filled.request(schedule, :a, stop(:init), :s1)
    assert reply == {:reply, stop(:init), :ok}
    assert {schedule, [{:stop, :a} | _]} = started(schedule, :s1, :a, :w)

    # Another one's start is waited for.
    assert {_, []} = Filled.request(schedule, :b, stop(:init), :s2)
  end

  test "stops with nothing between them are one stop, with one answer" do
    for answer <- [:ok, {:error, :not_found}] do
      assert {schedule, [{:stop, :a}]} = request(new(1), :a, stop(:c1))
      assert {schedule, []} = request(schedule, :a, stop(:c2))
      assert {schedule, replies} = Filled.stopped(schedule, :a, answer)
      assert replies == [{:reply, stop(:c1), answer}, {:reply, stop(:c2), answer}]
      assert Filled.counts(schedule) == {0, 0}
    end
  end

  test "a guest is given an id that is free, without a place" do
    schedule = asked(new(1), a: start(:c1))
    guest = register(:guest)
    assert {schedule, [{:register, :b, ^guest}]} = request(schedule, :b, guest)
    assert {schedule, [{:reply, ^guest, :yes}]} = Filled.registered(schedule, :b, guest, true)
    assert Filled.counts(schedule) == {1, 0}
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

    assert {schedule, [_share, {:register, :a, ^guest}]} = failed(schedule, :s1, :a, false)
    assert {schedule, actions} = Filled.registered(schedule, :a, guest, true)

    assert actions == [
             {:reply, guest, :yes},
             {:reply, lookup_or_start(:c2), {:ok, :guest}},
             {:reply, register(:c3), :no},
             {:stop, :a}
           ]

    assert {schedule, actions} = Filled.not_supervised(schedule, :a, :guest)

    assert actions == [
             {:reply, stop(:c4), {:error, :not_supervised}},
             {:reply, start(:c5), {:error, {:already_started, :guest}}}
           ]

    assert Filled.counts(schedule) == {0, 0}
  end

  test "a guest that cannot have the id, or waits no more, leaves it to the next one" do
    line = [start(:c1), register(:gone), register(:dead), register(:guest), start(:c2)]
    schedule = asked(new(1), for(request <- line, do: {:a, request}))
    {schedule, [{:forget, _}]} = Filled.gave_up(schedule, :a, :gone)
    ScheduleWorld.die(:dead)
    dead = register(:dead)
    guest = register(:guest)

    assert {schedule, [_share, {:forget, ^dead}, {:register, :a, ^guest}]} =
             failed(schedule, :s1, :a, false)

    assert {_, [{:reply, ^guest, :no}, {:start, :s1, :a, {:start, {:c2, _}, _, _}}]} =
             Filled.registered(schedule, :a, guest, false)
  end

  test "where the first in a queued line gives up, a guest behind it needs no place" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2), b: register(:guest), c: start(:c3))
    guest = register(:guest)

    assert {schedule, [{:forget, _}, {:register, :b, ^guest}]} = Filled.gave_up(schedule, :b, :c2)

    assert {schedule, [_reply]} = Filled.registered(schedule, :b, guest, true)
    assert {_, [{:start, :s1, :c, _}]} = started(schedule, :s1, :a, :w)
  end

  test "what is being started is given its name at once, and the start goes on" do
    schedule = asked(new(1), a: start(:c1), a: lookup_or_start(:c2))
    own = register(:init, :s1)
    assert {schedule, [{:register, :a, ^own}]} = request(schedule, :a, own)
    assert {schedule, [{:reply, ^own, :yes}]} = Filled.registered(schedule, :a, own, true)

    # Also another process that takes it in that start, or has it taken.
    own = register(:init)
    assert {schedule, [{:register, :a, ^own}]} = Filled.request(schedule, :a, own, :s1)
    assert {schedule, [{:reply, ^own, :no}]} = Filled.registered(schedule, :a, own, false)

    # Another's start is waited for.
    other = register(:other, :s2)
    assert {schedule, []} = Filled.request(schedule, :a, other, :s2)
    second = lookup_or_start(:c2)

    assert {_, [{:reply, ^second, {:ok, :init}}, {:reply, ^other, :no}]} =
             started(schedule, :s1, :a, :init)
  end

  test "a starter in handlers holds no place, and has no start until it rests" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2))
    assert {schedule, [{:start, :new, :b, _}]} = started(schedule, :s1, :a, :w, :handling)
    schedule = Filled.assigned(schedule, :b, :s2)
    assert {schedule, []} = started(schedule, :s2, :b, :w, :parent)
    assert Starters.next(schedule.starters) == nil

    assert {Filled.rested(schedule, :s1, :parent).starters |> Starters.next(),
            Filled.rested(schedule, :s1, :idle).starters |> Starters.next(),
            Filled.rested(schedule, :s2, :idle).starters |> Starters.next()} ==
             {nil, :s1, :s2}

    # Its end is nobody's failure.
    assert {_, []} = Filled.starter_died(schedule, :s1, :killed)
  end

  test "the starter that was used last is used first" do
    {schedule, [{:start, :s6, :a, _}]} = request(idle(6), :a, start(:c))
    assert {schedule, [{:start, :s5, :b, _}]} = request(schedule, :b, start(:c))
    {schedule, []} = started(schedule, :s6, :a, :w)
    assert {_, [{:start, :s6, :a, _}]} = request(schedule, :a, start(:c))
  end

  test "starters may end that are mere parents, or idle beyond four" do
    schedule = Filled.retire(idle(6), :s1)
    assert Filled.retire(schedule, :s1) == nil
    schedule = Filled.retire(schedule, :s6)
    assert Filled.retire(schedule, :s2) == nil
    assert Enum.sort(Starters.pids(schedule.starters)) == [:s2, :s3, :s4, :s5]
    assert {schedule, [{:start, :s5, :a, _}]} = request(schedule, :a, start(:c))
    assert Filled.retire(schedule, :s5) == nil
    {schedule, []} = started(schedule, :s5, :a, :w, :handling)
    assert Filled.retire(schedule, :s5) == nil
    schedule = schedule |> Filled.rested(:s5, :parent) |> Filled.retire(:s5)
    assert Starters.count(schedule.starters) == 3
  end

  defp replace(caller), do: {:replace, from(caller), nil, [caller]}

  test "a replacement ends the worker, waits for a place, and starts another; all behind it get that" do
    {:replace, from, nil, work} = request = replace(:c1)
    {schedule, actions} = request(new(1), :a, request)
    assert actions == [{:replace, :a, request}]

    schedule =
      asked(schedule, a: lookup_or_start(:c2), a: replace(:c3), a: start(:c4), b: start(:c5))

    # The only place is another's by now.
    {schedule, actions} = Filled.stopped(schedule, :a, :ok)
    assert actions == []
    {schedule, actions} = started(schedule, :s1, :b, :w)
    replacement = {:replacement, from, nil, work}
    assert actions == [{:start, :s1, :a, replacement}]
    {_schedule, actions} = started(schedule, :s1, :a, :w1)
    assert actions == [{:reply, lookup_or_start(:c2), {:ok, :w1}}, {:replace, :a, replace(:c3)}]
  end

  test "a replacement that nobody waits for is none, and those behind it get what there is" do
    schedule = asked(new(1), a: start(:c1), a: replace(:c2), a: start(:c3))
    Process.put(:dead, MapSet.new([:c2]))
    {schedule, actions} = started(schedule, :s1, :a, :w)
    assert actions == [{:forget, replace(:c2)}, {:look, :a}]
    {schedule, actions} = Filled.left_alone(schedule, :a, :w, nil)
    assert actions == [{:reply, start(:c3), {:error, {:already_started, :w}}}]
    refute Schedule.in_flight?(schedule, :a)
    Process.delete(:dead)
  end

  test "a replacement that may not be leaves those behind it the process there is" do
    schedule = asked(new(1), a: replace(:c1), a: start(:c2))
    {schedule, actions} = Filled.not_supervised(schedule, :a, :g)

    assert actions == [
             {:reply, replace(:c1), {:error, :not_supervised}},
             {:reply, start(:c2), {:error, {:already_started, :g}}}
           ]

    refute Schedule.in_flight?(schedule, :a)
  end

  test "strangers change nothing" do
    schedule = asked(new(1), a: start(:c1), b: start(:c2))
    assert started(schedule, :stranger, :a, :w) == {schedule, []}
    assert started(schedule, :s1, :b, :w) == {schedule, []}
    assert Filled.rested(schedule, :stranger, :idle) == schedule
    assert Filled.rested(schedule, :s1, :idle) == schedule
    assert Filled.retire(schedule, :stranger) == nil
    assert Filled.starter_died(schedule, :stranger, :killed) == {schedule, []}
    assert Filled.stopped(schedule, :a, :ok) == {schedule, []}
    assert Filled.stopped(schedule, :c, :ok) == {schedule, []}
    assert Filled.gave_up(schedule, :c, :c1) == {schedule, []}
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
    for event <- ScheduleWorld.Events.all(),
        do: assert(event in seen, "#{inspect(event)} never happened")
  end

  defp run({base, n} = seed) do
    :rand.seed(:exsss, {base, n, 0})
    Process.put(:history, [])
    Process.put(:seen, MapSet.new())
    Process.put(:dead, MapSet.new())

    try do
      1..@steps
      |> Enum.reduce(ScheduleWorld.new(:rand.uniform(5)), fn _, world ->
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
