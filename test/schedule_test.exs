defmodule GenRegistry.ScheduleTest do
  @moduledoc """
  The server's decisions, driven at random, apart from any process or time.

  Each run makes a world of callers, starters and workers that exist in this module only. It does
  what the schedule says, and tells it what may have come of it, in any order. After each step:

    1. At most `:max_starting` starts run that are held to the bound; nested ones always begin.
    2. An id has at most one flight: one start, or one stop, or one clearing away. So it has at most
       one worker.
    3. Whoever waits is answered once, with what became of his request; nobody else is answered.
    4. The requests of an id have their turns in the order in which they came. Ids that wait for a
       place have it in order.
    5. Nothing is started for one who gave up or died. His stops go on.
    6. Nobody who waits is given a worker that is dead.

  And at the end, when all starts and stops have ended:

    7. Nobody waits, no flight is left, no place is taken, and every starter is idle.

  `SCHEDULE_RUNS` says how many runs there are.
  """

  use ExUnit.Case, async: true

  alias GenRegistry.Schedule

  @runs String.to_integer(System.get_env("SCHEDULE_RUNS", "2000"))
  @steps 200

  defmodule World do
    @moduledoc false
    defstruct [
      :schedule,
      :max,
      # `{caller, tag}` to `{id, kind}`, for those who wait.
      waiting: %{},
      # Ids to the requests that have not had their turn, in order.
      lines: %{},
      # Ids to `{:start, starter, request, :bounded | :nested}`, `:stop` or `{:clear, starter}`.
      flights: %{},
      # Ids that wait for a place, in order.
      places: [],
      # The id whose start has just ended: it may go on at once.
      landed: nil,
      workers: %{},
      idle: [],
      # `{id, from}` that may be found to be nested.
      probes: [],
      next: 1
    ]
  end

  for part <- 0..3 do
    test "keeps its rules in random runs (#{part})" do
      seed = ExUnit.configuration()[:seed]

      for run <- 1..@runs, rem(run, 4) == unquote(part) do
        :rand.seed(:exsss, {seed, run, 0})

        try do
          run()
        rescue
          error ->
            IO.puts("run #{run} of seed #{seed} failed")
            reraise error, __STACKTRACE__
        end
      end
    end
  end

  defp run do
    Process.put(:gone, MapSet.new())
    max = :rand.uniform(3)
    gone? = fn {caller, _} -> MapSet.member?(Process.get(:gone), caller) end
    world = %World{max: max, schedule: Schedule.new(max, &(not gone?.(&1)))}

    1..@steps
    |> Enum.reduce(world, fn _, world -> world |> step(:rand.uniform(100)) |> check() end)
    |> finish()
  end

  ## What may happen

  defp step(world, n) when n <= 40, do: ask(world)
  defp step(world, n) when n <= 62, do: end_start(world, random_flight(world, :start))
  defp step(world, n) when n <= 78, do: end_stop(world, random_flight(world, :stop))
  defp step(world, n) when n <= 82, do: give_up(world, Enum.random([:tells, :dies]))
  defp step(world, n) when n <= 87, do: starter_dies(world)
  defp step(world, n) when n <= 92, do: found_nested(world)
  defp step(world, n) when n <= 95, do: worker_dies(world)
  defp step(world, _), do: stray_news(world)

  # As the server does: starts are asked for only where no live worker is found.
  defp ask(world) do
    id = :rand.uniform(6)
    kind = Enum.random([:start, :lookup_or_start, :lookup_or_start, :stop])
    from = {world.next, make_ref()}
    world = %{world | next: world.next + 1}

    if kind != :stop and is_map_key(world.workers, id) and world.workers[id].visible? do
      world
    else
      request = if kind == :stop, do: {:stop, from}, else: {kind, from, [from]}
      world = put_in(world.waiting[from], {id, kind})
      world = update_in(world.lines[id], &((&1 || []) ++ [request]))
      carry_out(world, Schedule.request(world.schedule, id, request))
    end
  end

  defp random_flight(world, kind) do
    world.flights |> Enum.filter(&kind?(elem(&1, 1), kind)) |> random()
  end

  defp kind?({:start, _, _, _}, :start), do: true
  defp kind?(:stop, :stop), do: true
  defp kind?({:clear, _}, :stop), do: true
  defp kind?(_, _), do: false

  defp random([]), do: nil
  defp random(list), do: Enum.random(list)

  defp end_start(world, nil), do: world

  defp end_start(world, {id, {:start, starter, request, _kind}}) do
    from = elem(request, 1)
    world = %{world | flights: Map.delete(world.flights, id), idle: [starter | world.idle]}
    # The starter has told its caller.
    world = %{world | waiting: Map.delete(world.waiting, from), landed: id}
    pid = {:worker, world.next}

    {world, outcome, alive?} =
      case :rand.uniform(4) do
        1 ->
          {world, {:error, :failed}, false}

        2 ->
          {world, {:ok, pid}, false}

        _ ->
          # Rule 2.
          refute is_map_key(world.workers, id)
          {put_in(world.workers[id], %{pid: pid, visible?: true}), {:ok, pid}, true}
      end

    world = %{world | next: world.next + 1}

    carry_out(
      world,
      Schedule.started(world.schedule, starter, id, outcome, alive?),
      {id, outcome, alive?}
    )
  end

  defp end_stop(world, nil), do: world

  defp end_stop(world, {id, stage}) do
    {answer, world} =
      case {stage, world.workers} do
        {{:clear, _}, _} -> {:ok, world}
        {:stop, %{^id => _}} -> {:ok, %{world | workers: Map.delete(world.workers, id)}}
        {:stop, %{}} -> {{:error, :not_found}, world}
      end

    world = %{world | flights: Map.delete(world.flights, id)}

    carry_out(
      world,
      Schedule.stopped(world.schedule, id, answer),
      {id, {:stopped, answer}, false}
    )
  end

  defp give_up(world, how) do
    case random(Map.to_list(world.waiting)) do
      nil ->
        world

      {{caller, _} = from, {id, kind}} ->
        world = %{world | waiting: Map.delete(world.waiting, from)}
        world = update_in(world.probes, &List.delete(&1, {id, from}))
        if how == :dies, do: Process.put(:gone, MapSet.put(Process.get(:gone), caller))

        if how == :tells and kind != :stop do
          # He is alive, and his request must be forgotten all the same.
          world = update_in(world.lines[id], &Enum.reject(&1, fn r -> elem(r, 1) == from end))
          carry_out(world, Schedule.gave_up(world.schedule, id, caller))
        else
          world
        end
    end
  end

  defp starter_dies(world) do
    busy = for {id, {:start, starter, _, _}} <- world.flights, do: {id, starter}

    case random(busy ++ Enum.map(world.idle, &{:idle, &1})) do
      nil ->
        world

      {:idle, starter} ->
        world = %{world | idle: List.delete(world.idle, starter)}
        assert {schedule, []} = Schedule.starter_died(world.schedule, starter, :killed)
        %{world | schedule: schedule}

      {id, starter} ->
        {:start, _, request, _} = world.flights[id]
        world = %{world | flights: Map.put(world.flights, id, {:cleared, starter})}
        died = Schedule.starter_died(world.schedule, starter, :killed)
        carry_out(world, died, {id, {:died, elem(request, 1)}, false})
    end
  end

  # The caller turns out to be in the init of a worker that is being started.
  defp found_nested(world) do
    case {random(world.probes), random_flight(world, :start)} do
      {{id, from} = probe, {own, {:start, starter, _, _}}} ->
        world = %{world | probes: List.delete(world.probes, probe)}
        world = if own == id, do: Map.put(world, :landed, nil), else: world
        nested = Schedule.nested(world.schedule, id, from, starter)
        carry_out(world, nested, {id, {:nested, from, own == id}, false})

      _ ->
        world
    end
  end

  defp worker_dies(world) do
    visible = for {id, %{visible?: true}} <- world.workers, do: id
    id = random(visible)
    %{world | workers: Map.delete(world.workers, id)}
  end

  # Late or false: it changes nothing.
  defp stray_news(world) do
    %{schedule: schedule} = world
    id = :rand.uniform(6)
    assert Schedule.started(schedule, :stranger, id, {:ok, :pid}, true) == {schedule, []}
    assert {^schedule, []} = Schedule.starter_died(schedule, :stranger, :killed)
    assert Schedule.gave_up(schedule, :unknown, 0) == {schedule, []}
    assert Schedule.stopped(schedule, :unknown, :ok) == {schedule, []}
    from = {0, make_ref()}

    unless match?(%{^id => {{:queued, _, _}, _}}, schedule.flights) do
      assert Schedule.nested(schedule, id, from, :stranger) == {schedule, []}
    end

    world
  end

  ## What the schedule says

  # `news` is what the schedule was told, by which its answers are judged.
  defp carry_out(world, {schedule, actions}, news \\ nil) do
    world = %{world | schedule: schedule}
    world = Enum.reduce(actions, world, &act(&2, &1, news))
    mark_places(%{world | landed: nil})
  end

  defp act(world, {:start, starter, id, request}, news) do
    {_kind, {caller, _} = from, _args} = request

    # Rule 2: nothing else goes on for the id.
    refute is_map_key(world.flights, id)
    refute is_map_key(world.workers, id)

    # Rule 5.
    assert is_map_key(world.waiting, from)
    refute MapSet.member?(Process.get(:gone), caller)

    # Rule 4: all before him had their turn, or have gone.
    world = take_turn(world, id, request)
    kind = if match?({^id, {:nested, _, _}, _}, news), do: :nested, else: :bounded

    world =
      case {kind, Enum.drop_while(world.places, &(&1 != id and not wants_place?(world, &1)))} do
        {:nested, _} -> %{world | places: List.delete(world.places, id)}
        {:bounded, [^id | places]} -> %{world | places: places}
        # It may be the one whose own place has just become free.
        {:bounded, places} -> assert(places == [] or world.landed == id) && world
      end

    if starter == :new and :rand.uniform(10) == 1 do
      not_assigned(world, id, from)
    else
      assigned(world, id, starter, request, kind)
    end
  end

  defp act(world, {:stop, id}, _news) do
    refute is_map_key(world.flights, id)
    {stops, line} = world.lines[id] |> forget(world) |> Enum.split_while(&match?({:stop, _}, &1))
    # Rule 4.
    assert stops != []
    world = put_in(world.lines[id], line)
    world = put_in(world.flights[id], :stop)
    world = update_in(world.places, &List.delete(&1, id))

    if is_map_key(world.workers, id),
      do: put_in(world.workers[id].visible?, false),
      else: world
  end

  defp act(world, {:clear, starter, id}, _news) do
    assert world.flights[id] == {:cleared, starter}
    put_in(world.flights[id], {:clear, starter})
  end

  # Rule 3: and rule 6, for an answer with a worker needs news of a live one.
  defp act(world, {:reply, from, answer}, news) do
    case world.waiting do
      %{^from => {id, kind}} ->
        assert {^id, what, alive?} = news

        case {kind, what} do
          {_, {:died, ^from}} ->
            assert answer == {:error, {:starter_died, :killed}}

          {_, {:not_assigned, ^from}} ->
            assert answer == {:error, :system_limit}

          {:lookup_or_start, {:ok, pid}} ->
            assert alive?
            assert answer == {:ok, pid}

          {:start, {:ok, pid}} ->
            assert alive?
            assert answer == {:error, {:already_started, pid}}

          {:stop, {:stopped, stopped}} ->
            assert answer == stopped

          # It stops itself in its own init.
          {:stop, {:nested, ^from, true}} ->
            assert answer == :ok
        end

        served(world, id, from, what)

      # Who waits no more may be answered: nobody hears it.
      %{} ->
        {id, what, _alive?} = news
        served(world, id, from, what)
    end
  end

  defp act(world, {:probe, id, from}, _news) do
    if is_map_key(world.waiting, from),
      do: update_in(world.probes, &[{id, from} | &1]),
      else: world
  end

  defp not_assigned(world, id, from) do
    outer = world.landed
    failed = Schedule.not_assigned(world.schedule, id, :system_limit)
    world = carry_out(%{world | landed: id}, failed, {id, {:not_assigned, from}, false})
    %{world | landed: outer}
  end

  defp assigned(world, id, starter, request, kind) do
    {starter, world} =
      case starter do
        :new ->
          assert world.idle == []
          {{:starter, world.next}, %{world | next: world.next + 1}}

        starter ->
          assert starter in world.idle
          {starter, %{world | idle: List.delete(world.idle, starter)}}
      end

    world = put_in(world.flights[id], {:start, starter, request, kind})

    if match?(%{^id => {{:starting, :new, _, _}, _}}, world.schedule.flights) do
      %{world | schedule: Schedule.assigned(world.schedule, id, starter)}
    else
      world
    end
  end

  # A stop that is answered in its own start is in the line still: the worker ends after that.
  defp served(world, _id, from, {:nested, _, _}) do
    %{world | waiting: Map.delete(world.waiting, from)}
  end

  defp served(world, id, from, _what) do
    world = %{world | waiting: Map.delete(world.waiting, from)}
    update_in(world.lines[id], &Enum.reject(&1 || [], fn r -> elem(r, 1) == from end))
  end

  defp wants_place?(world, id), do: match?([{_, _, _} | _], forget(world.lines[id], world))

  defp take_turn(world, id, request) do
    assert [^request | line] = forget(world.lines[id], world)
    put_in(world.lines[id], line)
  end

  # Passes those at the head of a line whose callers have gone.
  defp forget([{:stop, _} | _] = line, _world), do: line

  defp forget([request | line], world) do
    if is_map_key(world.waiting, elem(request, 1)),
      do: [request | line],
      else: forget(line, world)
  end

  defp forget([], _world), do: []

  # Ids that have begun to wait for a place, or wait no more.
  defp mark_places(world) do
    queued = for {id, {{:queued, ticket, _}, _}} <- world.schedule.flights, do: {ticket, id}
    queued = queued |> Enum.sort() |> Enum.map(&elem(&1, 1))
    # Those that waited stand before the others, in the same order.
    kept = Enum.filter(world.places, &(&1 in queued))
    assert queued == kept ++ (queued -- kept)
    %{world | places: queued}
  end

  ## What is true at all times

  defp check(world) do
    %{schedule: schedule} = world
    starts = for {_, {:start, _, _, _} = start} <- world.flights, do: start

    # Rule 1.
    bounded = Enum.count(starts, &match?({_, _, _, :bounded}, &1))
    assert bounded <= world.max
    assert schedule.running == bounded
    if world.places != [], do: assert(bounded == world.max)

    # Rule 2.
    starters = Enum.map(starts, &elem(&1, 1))
    assert starters == Enum.uniq(starters)
    {idle, busy} = Schedule.starters(schedule)
    assert Enum.sort(busy) == Enum.sort(starters)
    assert Enum.sort(idle) == Enum.sort(world.idle)

    # What is in flight is what goes on, or waits for a place.
    assert schedule.flights |> Map.keys() |> Enum.sort() ==
             Enum.sort(Map.keys(world.flights) ++ world.places)

    world
  end

  defp finish(world) do
    world =
      Enum.reduce_while(Stream.cycle([1]), world, fn _, world ->
        case world.flights |> Map.to_list() |> random() do
          nil -> {:halt, world}
          {_, {:start, _, _, _}} = flight -> {:cont, world |> end_start(flight) |> check()}
          flight -> {:cont, world |> end_stop(flight) |> check()}
        end
      end)

    # Rule 7.
    assert world.waiting == %{}
    assert world.schedule.flights == %{}
    assert world.schedule.running == 0
    assert world.schedule.busy == %{}
    assert Enum.all?(world.lines, fn {_, line} -> forget(line, world) == [] end)
    assert world.places == []
  end
end
