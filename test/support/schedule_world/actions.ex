defmodule ScheduleWorld.Actions do
  @moduledoc false
  # What the schedule says, checked and carried out as the server does it.

  import ExUnit.Assertions
  import ScheduleWorld

  alias GenRegistry.Schedule

  # Tells the schedule of something. `expected` has whoever is answered now, and how.
  def decided(world, what, expected, fun) do
    {schedule, actions} = fun.(world.schedule)
    note({what, actions})
    answers = for action <- actions, answers?(action), do: action
    assert Enum.sort(answers) == Enum.sort(expected), "other answers than there should be"

    # All is decided before any of it is done, which may bring about more.
    world = Enum.reduce(actions, %{world | schedule: schedule}, &decide/2)

    for {:start, _, id, _} <- actions, world.runs[id].kind == :nested do
      see(if what == :request, do: :nested_start, else: :nested_start_later)
    end

    Enum.reduce(actions, world, &carry_out/2)
  end

  defp answers?(action), do: is_tuple(action) and elem(action, 0) in [:reply, :share]

  # What those in an id's line are answered who get its process: all up to the first stop or replacement.
  def served(world, id, pid) do
    for request <- Enum.take_while(line(world, id), &(elem(&1, 0) not in [:stop, :replace])) do
      case elem(request, 0) do
        :start -> {:reply, request, {:error, {:already_started, pid}}}
        :lookup_or_start -> {:reply, request, {:ok, pid}}
        :register -> {:reply, request, :no}
      end
    end
  end

  ## What is decided

  defp decide(:fill_places, world), do: world

  defp decide({:reply, request, _reply}, world), do: answer(world, request)

  defp decide({:share, requests, _reason}, world),
    do: Enum.reduce(requests, world, &answer(&2, &1))

  defp decide({:forget, request}, world) do
    assert not live?(request) or from(request) in world.gave_up, "it waits"
    id = id_of(world, request)
    assert id != nil, "it was not in a line"
    see(if waiting?(from(request)), do: :forgot_who_gave_up, else: :forgot_the_dead)
    put_line(world, id, List.delete(line(world, id), request))
  end

  defp decide({:start, starter, id, request}, world) do
    kind = if Enum.any?(line(world, id), &nested?(world, &1)), do: :nested, else: :bounded

    world = world |> check_turn(id, request) |> take_starter(starter)
    if kind == :bounded, do: check_place(world, id, request)
    {number, world} = serial(world)
    run = %{starter: starter, request: request, kind: kind, ended?: false, number: number}
    put_in(world.runs[id], run)
  end

  defp decide({:stop, id}, world) do
    [first | _] = line(world, id)
    assert {:stop, _} = first, "it is not its turn"
    check_nothing_on(world, id)
    {stops, line} = Enum.split_while(line(world, id), &match?({:stop, _}, &1))
    put_in(put_line(world, id, line).ending[id], {:asked, stops})
  end

  defp decide({:replace, id, request}, world) do
    [^request | line] = line(world, id)
    assert waiting?(from(request)), "nobody waits for it"
    check_nothing_on(world, id)
    put_in(put_line(world, id, line).ending[id], {{:replacing, request}, []})
  end

  # Behind a replacement that nobody wants any more.
  defp decide({:look, id}, world) do
    check_nothing_on(world, id)
    put_in(world.ending[id], {:looked, []})
  end

  # By what is being started, in its start, the schedule goes on with that.
  defp decide({:register, id, request}, world) when is_map_key(world.runs, id) do
    put_line(world, id, List.delete(line(world, id), request))
  end

  defp decide({:register, id, request}, world) do
    put_in(check_turn(world, id, request).registering[id], request)
  end

  defp decide({:await_sweep, starter, id}, world) do
    assert {{:to_sweep, ^starter}, []} = world.ending[id]
    put_in(world.ending[id], {{:remains, starter}, []})
  end

  defp check_turn(world, id, request) do
    check_nothing_on(world, id)
    assert [first | line] = line(world, id), "nobody asked for it"
    assert first == request, "it is not its turn"
    assert live?(request), "nobody waits for it"
    unless waiting?(from(request)), do: see(:replacement_of_the_dead)
    assert not is_map_key(world.workers, id), "it has a process"
    put_line(world, id, line)
  end

  defp check_nothing_on(world, id) do
    for what <- [world.runs, world.ending, world.registering] do
      refute is_map_key(what, id), "it is in flight"
    end
  end

  # There is one, and no older request of any id waits for it.
  defp check_place(world, id, request) do
    assert places(world) < world.max, "there is no place"

    for other <- queued(world), other != id do
      first = Enum.find(line(world, other), &live?/1)

      if first != nil and start?(first) do
        see(:came_before_others)
        assert age(request) < age(first), "#{other} waits for longer"
      end
    end
  end

  defp take_starter(%{idle: []} = world, starter) do
    assert starter == :new
    world
  end

  defp take_starter(%{idle: [last_used | _]} = world, starter) do
    assert starter == last_used
    put_starter(world, starter, :starting)
  end

  # Stops are not in a line any more.
  defp answer(world, {:stop, _} = request), do: answered(world, request)

  defp answer(world, request) do
    world =
      case id_of(world, request) do
        nil -> world
        id -> put_line(world, id, List.delete(line(world, id), request))
      end

    answered(world, request)
  end

  def answered(world, request) do
    from = from(request)
    assert from not in world.answered, "answered twice"
    answered = MapSet.put(world.answered, from)
    %{world | answered: answered, waiting: Map.delete(world.waiting, from)}
  end

  defp id_of(world, request) do
    Enum.find_value(world.lines, fn {id, line} -> if request in line, do: id end)
  end

  ## What is carried out

  defp carry_out(:fill_places, world) do
    decided(world, :fill_places, [], &Schedule.fill_places/1)
  end

  defp carry_out({:start, :new, id, request}, world) do
    if :rand.uniform(8) == 1 do
      see(:no_starter)
      {_run, world} = pop_in(world.runs[id])

      decided(world, :no_starter, [{:reply, request, {:error, :no_starter}}], fn schedule ->
        Schedule.not_assigned(schedule, id, :no_starter)
      end)
    else
      {serial, world} = serial(world)
      starter = {:starter, serial}
      world = put_starter(put_in(world.runs[id].starter, starter), starter, :starting)
      world = %{world | schedule: Schedule.assigned(world.schedule, id, starter)}
      carry_out({:start, starter, id, request}, world)
    end
  end

  defp carry_out({:start, starter, id, request}, world) do
    if :rand.uniform(8) == 1 do
      see(:refused)
      {_run, world} = pop_in(world.runs[id])
      world = put_starter(put_in(world.doing[starter], :idle), starter, :idle)

      decided(world, :refused, [{:reply, request, {:error, :refused}}], fn schedule ->
        Schedule.refused(schedule, id, starter, :refused)
      end)
    else
      put_in(world.doing[starter], :starting)
    end
  end

  defp carry_out({:stop, id}, world) do
    {:asked, stops} = world.ending[id]

    case Map.pop(world.workers, id) do
      {nil, _} ->
        see(:not_found)
        stopped(world, id, {:error, :not_found})

      {{pid, nil}, _} ->
        not_supervised(world, id, pid)

      {{pid, _}, workers} ->
        put_in(%{world | workers: workers}.ending[id], {pid, stops})
    end
  end

  defp carry_out({:replace, id, _request}, world) do
    case Map.pop(world.workers, id) do
      {nil, _} ->
        see(:replaced_nothing)
        stopped(world, id, {:error, :not_found})

      {{pid, nil}, _} ->
        not_supervised(world, id, pid)

      {{_pid, _}, workers} ->
        %{world | workers: workers}
    end
  end

  defp carry_out({:look, id}, world) do
    see(:looked)

    case world.workers do
      %{^id => {pid, _}} -> not_supervised(world, id, pid)
      %{} -> stopped(world, id, {:error, :not_found})
    end
  end

  # In its start, which goes on.
  defp carry_out({:register, id, request}, world) when is_map_key(world.runs, id) do
    {:register, {caller, _} = from, pid, parent} = request
    # Another that is in there with it may have been quicker.
    given? = not is_map_key(world.workers, id) and waiting?(from)
    # The start may be over, of which the server has not heard yet.
    %{starter: starter} = world.runs[id]
    own? = in_init(world, caller) == starter and starter not in world.dead_starters
    if given? and own?, do: see(if(parent == nil, do: :own_name, else: :own_name_by_parent))
    worker = {pid, if(own?, do: starter)}
    world = if given?, do: put_in(world.workers[id], worker), else: world
    registered(world, id, request, given?, [])
  end

  defp carry_out({:register, id, request}, world) do
    {:register, _from, pid, _} = request
    {^request, world} = pop_in(world.registering[id])
    given? = :rand.uniform(4) > 1
    see(if given?, do: :guest, else: :no_guest)
    world = if given?, do: put_in(world.workers[id], {pid, nil}), else: world
    registered(world, id, request, given?, if(given?, do: served(world, id, pid), else: []))
  end

  defp carry_out(_action, world), do: world

  defp registered(world, id, request, given?, expected) do
    reply = {:reply, request, if(given?, do: :yes, else: :no)}

    decided(world, :registered, [reply | expected], fn schedule ->
      Schedule.registered(schedule, id, request, given?)
    end)
  end

  def stopped(world, id, reply) do
    {{what, stops}, world} = pop_in(world.ending[id])
    expected = for stop <- stops, from(stop) != nil, do: {:reply, stop, reply}
    world = replacement_next(world, id, what)
    decided(world, :stopped, expected, &Schedule.stopped(&1, id, reply))
  end

  def not_supervised(world, id, pid) do
    see(:not_supervised)
    {{what, stops}, world} = pop_in(world.ending[id])
    stops = with {:replacing, request} <- what, do: [request], else: (_ -> stops)
    expected = for stop <- stops, from(stop) != nil, do: {:reply, stop, {:error, :not_supervised}}

    expected = expected ++ served(world, id, pid)
    decided(world, :not_supervised, expected, &Schedule.not_supervised(&1, id, pid))
  end

  # Nothing comes in between.
  defp replacement_next(world, id, {_, {:replace, from, key, work}}),
    do: put_line(world, id, [{:replacement, from, key, work} | line(world, id)])

  defp replacement_next(world, _id, _what), do: world
end
