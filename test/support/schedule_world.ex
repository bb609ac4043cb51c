defmodule ScheduleWorld do
  @moduledoc false
  # What is around a schedule: a server with its mailbox, starters, workers, callers. It knows who
  # should have what, from what happened, and checks every action against it.

  import ExUnit.Assertions

  alias GenRegistry.Schedule

  defstruct [
    :max,
    :schedule,
    serial: 0,
    # Those that are neither answered nor being started, by id, in order of arrival.
    lines: %{},
    # Ids that wait for a place, in order of arrival.
    queued: [],
    # Starters to what they run.
    runs: %{},
    idle: [],
    dead_starters: MapSet.new(),
    # Ids to what is being ended, and to whom this is answered.
    ending: %{},
    # Registered ones that are alive, `{worker, starter}` by id; guests have no starter.
    workers: %{},
    # Callers in a worker's init, to that start.
    nested: %{},
    # Whoever expects an answer, to its id and request.
    waiting: %{},
    answered: MapSet.new(),
    # Those that are answered twice.
    own_stops: MapSet.new(),
    probes: [],
    mailbox: []
  ]

  @ids 1..5

  # All that has to happen in some sequence.
  @events [
    :lookup_or_start,
    :start,
    :stop,
    :register,
    :nested_request,
    :own_stop,
    :own_name,
    :own_name_at_once,
    :guest,
    :no_guest,
    :not_supervised,
    :left_a_guest,
    :known_worker,
    :queued,
    :joined_stop,
    :no_starter,
    :refused,
    :ok,
    :ok_but_dead,
    :failed,
    :worker_died,
    :idle_starter_died,
    :busy_starter_died,
    :cleared,
    :stopped,
    :not_found,
    :nested_start,
    :late_nested,
    :gave_up,
    :caller_died,
    :skipped_the_dead,
    :stranger
  ]

  def events, do: @events

  def new(max), do: %__MODULE__{max: max, schedule: Schedule.new(max, &waiting?/1)}

  def waiting?({caller, _tag}), do: caller not in Process.get(:dead, MapSet.new())

  def die(caller), do: Process.put(:dead, MapSet.put(Process.get(:dead, MapSet.new()), caller))

  ## What happens

  def step(world) do
    check(event(world, :rand.uniform(100)))
  end

  defp event(world, n) when n <= 25, do: ask(world)
  defp event(world, n) when n <= 33, do: ask_nested(world)
  defp event(world, n) when n <= 48, do: end_run(world, pick(can_end(world)))
  defp event(world, n) when n <= 52, do: end_worker(world, pick(can_die(world)))
  defp event(world, n) when n <= 60, do: end_ending(world, pick(Map.keys(world.ending)))
  defp event(world, n) when n <= 63, do: starter_dies(world, pick(starters(world)))
  defp event(world, n) when n <= 70, do: probe(world)
  defp event(world, n) when n <= 75, do: give_up(world, pick(Map.keys(world.waiting)))
  defp event(world, n) when n <= 79, do: caller_dies(world, pick(Map.keys(world.waiting)))
  defp event(world, n) when n <= 84, do: stranger(world)
  defp event(world, _), do: deliver(world)

  # Ends all that runs, in turn, and asks for nothing more.
  def finish(world) do
    world = world |> probe() |> deliver()
    world = for starter <- can_end(world), reduce: world, do: (world -> end_run(world, starter))

    world = for id <- Map.keys(world.ending), reduce: world, do: (world -> end_ending(world, id))

    world = check(world)

    cond do
      world.mailbox != [] or world.probes != [] or can_end(world) != [] -> finish(world)
      Enum.any?(world.ending, fn {_, {what, _}} -> what != :ended end) -> finish(world)
      true -> check_end(world)
    end
  end

  defp check_end(%{schedule: schedule} = world) do
    assert world.runs == %{}, "they wait for each other"
    assert {schedule.flights, schedule.running} == {%{}, 0}
    # What is left there was let go of by its id.
    assert world.queued == []
    assert world.waiting == %{}, "some were not answered"
  end

  defp ask(world) do
    {serial, world} = serial(world)

    request(
      world,
      Enum.random(@ids),
      {:caller, serial},
      pick([:lookup_or_start, :start, :stop, :register])
    )
  end

  # Workers start others of higher ids only: else they could wait for each other.
  defp ask_nested(world) do
    with starter when starter != nil <- pick(can_go_on(world)) do
      {serial, world} = serial(world)
      %{id: own, number: number} = world.runs[starter]
      caller = {:init, serial}
      world = put_in(world.nested[caller], {starter, number})
      see(:nested_request)
      id = Enum.random(own..Enum.max(@ids))
      own_name? = is_map_key(world.workers, own)

      kinds =
        cond do
          id != own -> [:lookup_or_start, :start, :stop, :register]
          # It has its name.
          own_name? -> [:stop]
          true -> [:stop, :register, {:register, starter}]
        end

      request(world, id, caller, pick(kinds))
    else
      nil -> world
    end
  end

  defp request(world, id, caller, kind) do
    {serial, world} = serial(world)
    from = {caller, serial}

    {kind, request} =
      case kind do
        :stop -> {:stop, {:stop, from}}
        :register -> {:register, {:register, from, {:guest, serial}, nil}}
        {:register, parent} -> {:register, {:register, from, {:guest, serial}, parent}}
        _ -> {kind, {kind, from, [{:args, serial}]}}
      end

    note({:request, id, request})
    see(kind)
    world = put_in(world.waiting[from], {id, request})

    case {kind, world} do
      {:lookup_or_start, %{workers: %{^id => {pid, _}}}} ->
        see(:known_worker)
        reply(world, from, {:ok, pid})

      {:start, %{workers: %{^id => {pid, _}}}} ->
        reply(world, from, {:error, {:already_started, pid}})

      {:register, %{workers: %{^id => _}}} ->
        reply(world, from, :no)

      _ ->
        decided(stand_in_line(world, id, request), {:request, id}, [], fn schedule ->
          Schedule.request(schedule, id, request)
        end)
    end
  end

  defp stand_in_line(world, id, request) do
    case {request, world.ending, line(world, id)} do
      {{:stop, from}, %{^id => {what, callers}}, []} ->
        see(:joined_stop)
        put_in(world.ending[id], {what, callers ++ [from]})

      {_, _, line} ->
        put_in(world.lines[id], line ++ [request])
    end
  end

  # A start ends, unless what it does in its init does not.
  defp can_end(world) do
    for starter <- can_go_on(world),
        number = world.runs[starter].number,
        not Enum.any?(world.waiting, fn {{caller, _}, _} ->
          world.nested[caller] == {starter, number}
        end) do
      starter
    end
  end

  defp can_go_on(world) do
    for {starter, %{ended?: false}} <- world.runs,
        starter not in world.dead_starters,
        do: starter
  end

  defp end_run(world, nil), do: world

  defp end_run(world, starter) do
    %{id: id, request: request} = world.runs[starter]
    {serial, world} = serial(world)
    pid = {:worker, serial}
    see(outcome = pick([:ok, :ok, :ok_but_dead, :failed]))
    note({outcome, starter, id})
    # What took the name in its start is the worker, and may stay as a guest if that fails.
    {named, workers} = Map.pop(world.workers, id)
    pid = with {pid, ^starter} <- named, do: pid, else: (nil -> pid)

    workers =
      case outcome do
        :ok ->
          Map.put(workers, id, {pid, starter})

        :failed when named != nil ->
          if coin(), do: Map.put(workers, id, {pid, nil}), else: workers

        _ ->
          workers
      end

    world = %{world | workers: workers}
    answer = if outcome == :failed, do: {:error, :failed}, else: {:ok, pid}
    world = put_in(world.runs[starter].ended?, true)
    reply(post(world, {:started, starter, id, answer}), from(request), answer)
  end

  # Not those that are in their init.
  defp can_die(world), do: for({id, _} <- world.workers, running(world, id) == [], do: id)

  defp end_worker(world, nil), do: world

  defp end_worker(world, id) do
    note({:worker_died, id})
    see(:worker_died)
    %{world | workers: Map.delete(world.workers, id)}
  end

  defp end_ending(world, id) do
    case world.ending[id] do
      nil ->
        world

      {:ended, _} ->
        world

      {what, callers} ->
        # What the dead starter began is cleared away, with all that waited in its init.
        starter = with({:remains, starter} <- what, do: starter)
        for {caller, {^starter, _}} <- world.nested, do: die(caller)

        world = %{
          world
          | waiting: Map.filter(world.waiting, fn {from, _} -> waiting?(from) end)
        }

        see(if starter == what, do: :stopped, else: :cleared)
        post(put_in(world.ending[id], {:ended, callers}), {:ended, id})
    end
  end

  defp starters(world) do
    (world.idle ++ Map.keys(world.runs)) -- MapSet.to_list(world.dead_starters)
  end

  defp starter_dies(world, nil), do: world

  defp starter_dies(world, starter) do
    note({:starter_dies, starter})
    workers = Map.reject(world.workers, fn {_, {_, parent}} -> parent == starter end)
    dead_starters = MapSet.put(world.dead_starters, starter)
    post(%{world | workers: workers, dead_starters: dead_starters}, {:exit, starter})
  end

  defp probe(%{probes: []} = world), do: world

  defp probe(world) do
    {id, {caller, _} = from} = asked = pick(world.probes)
    world = %{world | probes: world.probes -- [asked]}

    case waiting?(from) and in_init(world, caller) do
      starter when starter in [nil, false] -> world
      starter -> post(world, {:nested, id, from, starter})
    end
  end

  defp in_init(world, caller) do
    with {starter, number} <- world.nested[caller],
         %{number: ^number, ended?: false} <- world.runs[starter] do
      starter
    else
      _ -> nil
    end
  end

  defp give_up(world, nil), do: world

  defp give_up(world, {caller, _} = from) do
    note({:gave_up, from})
    see(:gave_up)
    {{id, request}, waiting} = Map.pop!(world.waiting, from)

    left = if elem(request, 0) == :stop, do: line(world, id), else: line(world, id) -- [request]

    world = %{world | waiting: waiting, lines: Map.put(world.lines, id, left)}
    decided(world, {:gave_up, id}, [], &Schedule.gave_up(&1, id, caller))
  end

  defp caller_dies(world, nil), do: world

  defp caller_dies(world, {caller, _} = from) do
    note({:caller_died, from})
    see(:caller_died)
    die(caller)
    %{world | waiting: Map.delete(world.waiting, from)}
  end

  defp stranger(%{schedule: schedule} = world) do
    id = Enum.random(@ids)
    from = {:stranger, 0}
    other = Enum.find([:stranger | world.idle], :stranger, fn _ -> coin() end)
    busy_with_others = for {starter, %{id: busy}} <- world.runs, busy != id, do: starter
    see(:stranger)

    told =
      case :rand.uniform(6) do
        1 ->
          Schedule.started(schedule, other, id, {:ok, :pid}, coin())

        2 ->
          Schedule.started(
            schedule,
            pick([:stranger | busy_with_others]),
            id,
            {:ok, :pid},
            true
          )

        3 ->
          Schedule.starter_died(schedule, :stranger, :killed)

        4 when is_map_key(world.ending, id) ->
          {schedule, []}

        4 ->
          Schedule.stopped(schedule, id, pick([:ok, {:error, :not_found}]))

        5 ->
          Schedule.nested(schedule, id, from, pick([:stranger | Map.keys(world.runs)]))

        6 ->
          Schedule.gave_up(schedule, id, :stranger)
      end

    {schedule, actions} = told
    note({:stranger, actions})
    assert actions == []
    assert lists(schedule) == lists(world.schedule)
    %{world | schedule: schedule}
  end

  # Queues of the same may differ in how they are made.
  defp lists(schedule) do
    flights =
      Map.new(schedule.flights, fn {id, {stage, line}} ->
        {id, {stage, :queue.to_list(line)}}
      end)

    %{schedule | flights: flights, queue: :queue.to_list(schedule.queue)}
  end

  ## What the server hears of

  defp post(world, message), do: %{world | mailbox: world.mailbox ++ [message]}

  defp deliver(%{mailbox: []} = world), do: world

  defp deliver(%{mailbox: [message | mailbox]} = world) do
    note({:deliver, message})
    heard(%{world | mailbox: mailbox}, message)
  end

  defp heard(world, {:started, starter, id, outcome}) do
    {%{id: ^id}, world} = pop_in(world.runs[starter])

    # A worker, or a guest that a failed start left.
    {outcome, alive?} =
      case world.workers do
        %{^id => {pid, _}} -> {{:ok, pid}, true}
        %{} -> {outcome, false}
      end

    if match?({_, nil}, world.workers[id]), do: see(:left_a_guest)
    {answers, world} = if alive?, do: serve(world, id, elem(outcome, 1)), else: {[], world}
    world = %{world | idle: [starter | world.idle]}
    decided(world, {:free, id}, answers, &Schedule.started(&1, starter, id, outcome, alive?))
  end

  defp heard(world, {:exit, starter}) do
    case Map.pop(world.runs, starter) do
      {nil, _} ->
        see(:idle_starter_died)
        world = %{world | idle: world.idle -- [starter]}
        decided(world, :exit, [], &Schedule.starter_died(&1, starter, :killed))

      {%{id: id, request: request}, runs} ->
        see(:busy_starter_died)
        world = put_in(%{world | runs: runs}.ending[id], {{:to_clear, starter}, []})
        answers = [{from(request), {:error, {:starter_died, :killed}}}]
        decided(world, :exit, answers, &Schedule.starter_died(&1, starter, :killed))
    end
  end

  defp heard(world, {:ended, id}) do
    {{:ended, callers}, world} = pop_in(world.ending[id])

    case world.workers do
      # A dead starter's last start had left it.
      %{^id => {pid, nil}} -> not_supervised(world, id, callers, pid)
      %{} -> stopped(world, id, callers, :ok)
    end
  end

  defp heard(world, {:nested, id, {caller, _} = from, starter}) do
    own? = match?(%{^starter => %{id: ^id}}, world.runs) and {:stop, from} in line(world, id)
    world = if own?, do: update_in(world.own_stops, &MapSet.put(&1, from)), else: world
    if own?, do: see(:own_stop)
    waits? = Enum.any?(line(world, id), &(from(&1) == from))
    before = world.schedule

    world =
      decided(world, :nested, if(own?, do: [{from, :ok}], else: []), fn schedule ->
        Schedule.nested(schedule, id, from, starter)
      end)

    unless waits? and waiting?({caller, 0}) do
      see(:late_nested)
      if not waits?, do: assert(world.schedule == before, "nobody is nested here")
    end

    world
  end

  # What those in an id's line are answered who get its process: all up to the first stop.
  defp serve(world, id, pid) do
    {served, line} = Enum.split_while(line(world, id), &(elem(&1, 0) != :stop))

    answers =
      for request <- served do
        case request do
          {:start, from, _} -> {from, {:error, {:already_started, pid}}}
          {:lookup_or_start, from, _} -> {from, {:ok, pid}}
          {:register, from, _, _} -> {from, :no}
        end
      end

    {answers, %{world | lines: Map.put(world.lines, id, line)}}
  end

  defp stopped(world, id, callers, answer) do
    answers = for from <- callers, do: {from, answer}
    decided(world, {:stopped, id}, answers, &Schedule.stopped(&1, id, answer))
  end

  defp not_supervised(world, id, callers, pid) do
    see(:not_supervised)
    {answers, world} = serve(world, id, pid)
    answers = answers ++ for from <- callers, do: {from, {:error, :not_supervised}}
    decided(world, {:free, id}, answers, &Schedule.not_supervised(&1, id, pid))
  end

  ## What the schedule wants done

  defp decided(world, cause, answers, fun) do
    {schedule, actions} = fun.(world.schedule)
    note({cause, actions})
    replies = for {:reply, from, answer} <- actions, do: {from, answer}
    assert replies -- answers == [], "answers that nobody should have"
    expected = for {from, _} = answer <- answers, is_map_key(world.waiting, from), do: answer
    assert expected -- replies == [], "some wait for their answer"
    queued = Enum.reduce(actions, world.queued, &queued_after(&2, &1, cause, world))
    Enum.reduce(actions, %{world | schedule: schedule, queued: queued}, &act(&2, &1, cause))
  end

  # Who comes next is settled before any of it is done, which may bring about more.
  defp queued_after(queued, {:start, _, id, _}, cause, world) do
    earlier = Enum.take_while(queued, &(&1 != id))

    unless cause in [:nested, {:free, id}] do
      for id <- earlier, do: assert(live(line(world, id)) == [], "#{id} comes before")
    end

    queued -- [id]
  end

  defp queued_after(queued, {:stop, id}, _, _), do: queued -- [id]
  defp queued_after(queued, {:register, id, _}, _, _), do: queued -- [id]
  defp queued_after(queued, _, _, _), do: queued

  defp act(world, {:reply, from, answer}, _cause), do: reply(world, from, answer)
  defp act(world, {:probe, id, from}, _), do: %{world | probes: [{id, from} | world.probes]}

  defp act(world, {:start, starter, id, request}, cause) do
    {first, world} = turn(world, id)
    assert first == request, "it is not its turn"
    assert waiting?(from(request)), "nobody waits for it"
    assert not is_map_key(world.workers, id), "it has a worker"
    kind = if cause == :nested, do: :nested, else: :bounded
    if kind == :nested, do: see(:nested_start)

    if kind == :bounded, do: assert(bounded(world) < world.max)
    {serial, world} = serial(world)
    run = %{id: id, request: request, kind: kind, ended?: false, number: serial}

    cond do
      starter != :new and :rand.uniform(8) == 1 ->
        see(:refused)
        assert starter in world.idle

        decided(world, {:free, id}, [{from(request), {:error, :refused}}], fn schedule ->
          Schedule.refused(schedule, id, starter, :refused)
        end)

      starter != :new ->
        assert starter in world.idle
        put_in(%{world | idle: world.idle -- [starter]}.runs[starter], run)

      :rand.uniform(8) == 1 ->
        see(:no_starter)

        decided(world, {:free, id}, [{from(request), {:error, :no_starter}}], fn schedule ->
          Schedule.not_assigned(schedule, id, :no_starter)
        end)

      true ->
        assert world.idle == []
        starter = {:starter, serial}
        world = put_in(world.runs[starter], run)
        %{world | schedule: Schedule.assigned(world.schedule, id, starter)}
    end
  end

  defp act(world, {:stop, id}, _cause) do
    {first, world} = turn(world, id)
    assert {:stop, _} = first, "it is not its turn"
    {stops, line} = Enum.split_while(line(world, id), &(elem(&1, 0) == :stop))
    callers = for {:stop, from} <- [first | stops], do: from
    world = put_in(world.lines[id], line)

    case Map.pop(world.workers, id) do
      {nil, _} ->
        see(:not_found)
        stopped(world, id, callers, {:error, :not_found})

      {{pid, nil}, _} ->
        not_supervised(world, id, callers, pid)

      {{pid, _}, workers} ->
        put_in(%{world | workers: workers}.ending[id], {pid, callers})
    end
  end

  defp act(world, {:register, id, {:register, from, pid, _} = request}, cause) do
    case running(world, id) do
      [] ->
        assert not is_map_key(world.workers, id), "it has a process"
        {first, world} = turn(world, id)
        assert first == request, "it is not its turn"
        assert waiting?(from), "nobody waits for it"
        given? = :rand.uniform(4) > 1
        see(if given?, do: :guest, else: :no_guest)
        world = if given?, do: put_in(world.workers[id], {pid, nil}), else: world
        {answers, world} = if given?, do: serve(world, id, pid), else: {[], world}
        registered(world, id, request, given?, answers)

      # By what is being started, in its start.
      [_run] ->
        [starter] = for {starter, %{id: ^id}} <- world.runs, do: starter
        # Another that is in there with it may have been quicker.
        given? = not is_map_key(world.workers, id) and waiting?(from)

        # The start may be over, of which the server has not heard yet.
        own? = in_init(world, elem(from, 0)) == starter and starter not in world.dead_starters

        if given? and own?,
          do: see(if cause == :nested, do: :own_name, else: :own_name_at_once)

        parent = if own?, do: starter
        world = if given?, do: put_in(world.workers[id], {pid, parent}), else: world
        registered(update_in(world.lines[id], &(&1 -- [request])), id, request, given?, [])
    end
  end

  defp act(world, {:clear, starter, id}, _cause) do
    assert {{:to_clear, ^starter}, []} = world.ending[id]
    put_in(world.ending[id], {{:remains, starter}, []})
  end

  defp registered(world, id, {:register, from, _, _} = request, given?, answers) do
    answers = [{from, if(given?, do: :yes, else: :no)} | answers]
    decided(world, {:free, id}, answers, &Schedule.registered(&1, id, request, given?))
  end

  # The first in the line of an id who still waits.
  defp turn(world, id) do
    assert not is_map_key(world.ending, id), "it is being ended"
    assert running(world, id) == [], "it is being started"
    {dead, rest} = Enum.split_while(line(world, id), &(live([&1]) == []))
    if dead != [], do: see(:skipped_the_dead)
    assert [first | line] = rest, "nobody asked for it"
    {first, put_in(world.lines[id], line)}
  end

  defp reply(world, from, _answer) do
    assert from not in world.answered or from in world.own_stops, "answered twice"
    answered = MapSet.put(world.answered, from)
    %{world | answered: answered, waiting: Map.delete(world.waiting, from)}
  end

  ## What is true after every step

  defp check(%{schedule: schedule} = world) do
    world = world |> let_go() |> note_queued()

    assert bounded(world) <= world.max
    assert schedule.running == bounded(world)
    assert Enum.sort(elem(Schedule.starters(schedule), 1)) == Enum.sort(Map.keys(world.runs))
    assert Enum.sort(schedule.idle) == Enum.sort(world.idle)
    assert world.queued == [] or bounded(world) == world.max, "a place is free"

    flying = for({_, run} <- world.runs, do: run.id) ++ Map.keys(world.ending) ++ world.queued
    assert flying -- Enum.uniq(flying) == [], "an id has one flight"
    assert Enum.sort(flying) == Enum.sort(Map.keys(schedule.flights))
    for {id, flight} <- schedule.flights, do: check_flight(world, id, flight)

    queue =
      for {ticket, id} <- :queue.to_list(schedule.queue), ticket == ticket(world, id), do: id

    assert queue == world.queued
    assert schedule.valid == length(queue)
    assert schedule.valid + schedule.void == :queue.len(schedule.queue)
    for {from, {id, request}} <- world.waiting, do: check_nested(world, id, from, request)
    world
  end

  defp check_flight(world, id, {stage, line}) do
    line = :queue.to_list(line)

    line =
      case stage do
        {:queued, _ticket, request} ->
          assert id in world.queued
          [request | line]

        {:starting, starter, request, kind} ->
          assert %{id: ^id, request: ^request, kind: ^kind} = world.runs[starter]
          line

        {:stopping, callers} ->
          assert {what, expected} = world.ending[id]
          assert not match?({:to_clear, _}, what), "it is not cleared away"
          assert Enum.reverse(callers) == expected
          line
      end

    assert live(line) == live(line(world, id))
  end

  # It is found out about those in an init who wait for a place or for themselves.
  defp check_nested(world, id, {caller, _} = from, request) do
    starter = in_init(world, caller)
    own? = elem(request, 0) in [:stop, :register] and match?(%{id: ^id}, world.runs[starter])

    if starter != nil and starter not in world.dead_starters and
         (id in world.queued or own?) do
      assert {id, from} in world.probes or {:nested, id, from, starter} in world.mailbox,
             "#{inspect(from)} waits for a place, or for its own start or end"
    end
  end

  # An id is let go of when nobody waits for it any more.
  defp let_go(world) do
    {kept, dropped} = Map.split(world.lines, Map.keys(world.schedule.flights))
    for {id, line} <- dropped, do: assert(live(line) == [], "#{id} is let go of")
    queued = Enum.filter(world.queued, &is_map_key(world.schedule.flights, &1))
    %{world | lines: kept, queued: queued}
  end

  defp note_queued(world) do
    new =
      for {id, {{:queued, ticket, _}, _}} <- world.schedule.flights,
          id not in world.queued,
          do: {ticket, id}

    if new != [], do: see(:queued)
    %{world | queued: world.queued ++ for({_, id} <- Enum.sort(new), do: id)}
  end

  defp ticket(world, id) do
    with {{:queued, ticket, _}, _} <- world.schedule.flights[id], do: ticket
  end

  ## Small things

  defp line(world, id), do: Map.get(world.lines, id, [])
  defp live(line), do: Enum.filter(line, &(elem(&1, 0) == :stop or waiting?(from(&1))))
  defp from(request), do: elem(request, 1)
  defp running(world, id), do: for({_, %{id: ^id} = run} <- world.runs, do: run)
  defp bounded(world), do: Enum.count(world.runs, fn {_, run} -> run.kind == :bounded end)
  defp serial(world), do: {world.serial + 1, %{world | serial: world.serial + 1}}
  defp pick([]), do: nil
  defp pick(list), do: Enum.random(list)
  defp coin, do: :rand.uniform(2) == 1
  defp note(what), do: Process.put(:history, [what | Process.get(:history)])
  defp see(event), do: Process.put(:seen, MapSet.put(Process.get(:seen), event))
end
