defmodule ScheduleWorld.Events do
  @moduledoc false
  # What may happen around the schedule.

  import ExUnit.Assertions
  import ScheduleWorld
  import ScheduleWorld.Actions

  alias GenRegistry.Schedule
  alias ScheduleWorld.News

  @ids 1..6
  @keys [nil, :key1, :key1, :key2]
  @requests [:lookup_or_start, :start, :stop, :register, :replace]

  # All that has to happen in some sequence.
  @all [
    :lookup_or_start,
    :start,
    :stop,
    :register,
    :replace,
    :replaced,
    :replaced_nothing,
    :replacement_of_the_dead,
    :looked,
    :asked_twice,
    :nested_request,
    :nested_elsewhere,
    :own_stop,
    :own_name,
    :own_name_by_parent,
    :guest,
    :no_guest,
    :not_supervised,
    :left_a_guest,
    :known_worker,
    :queued,
    :came_before_others,
    :joined_stop,
    :no_starter,
    :refused,
    :ok,
    :ok_but_dead,
    :failed,
    :failed_alone,
    :shared,
    :equal_beyond_a_barrier,
    :worker_died,
    :idle_starter_died,
    :busy_starter_died,
    :handling_starter_died,
    :parent_died,
    :rested,
    :became_a_parent,
    :idle_after_parent,
    :retired_idle,
    :retired_parent,
    :kept_ready,
    :kept_busy,
    :cleared,
    :stopped,
    :not_found,
    :nested_start,
    :nested_start_later,
    :nested_behind_others,
    :gave_up,
    :forgot_who_gave_up,
    :caller_died,
    :forgot_the_dead,
    :stranger
  ]

  def all, do: @all

  def happen(world, n) when n <= 24, do: ask(world)
  def happen(world, n) when n <= 32, do: ask_nested(world)
  def happen(world, n) when n <= 46, do: end_run(world, pick(can_end(world)))
  def happen(world, n) when n <= 50, do: end_worker(world, pick(can_die(world)))
  def happen(world, n) when n <= 57, do: end_ending(world, pick(Map.keys(world.ending)))
  def happen(world, n) when n <= 59, do: starter_dies(world, pick(alive(world)))
  def happen(world, n) when n <= 64, do: rest(world, can_rest(world))
  def happen(world, n) when n <= 67, do: offer_to_end(world, pick(without_workers(world)))
  def happen(world, n) when n <= 71, do: give_up(world, pick(Map.keys(world.waiting)))
  def happen(world, n) when n <= 74, do: caller_dies(world, pick(Map.keys(world.waiting)))
  def happen(world, n) when n <= 79, do: stranger(world)
  def happen(world, _), do: News.deliver(world)

  # One round of all that ends by itself.
  def go_on(world) do
    world = News.deliver(world)
    world = Enum.reduce(can_end(world), world, &end_run(&2, &1))
    Enum.reduce(Map.keys(world.ending), world, &end_ending(&2, &1))
  end

  def over?(world) do
    world.mailbox == [] and can_end(world) == [] and world.ending == %{}
  end

  ## Requests

  defp ask(world) do
    {serial, world} = serial(world)
    others = for {{{:caller, _} = caller, _}, _} <- world.waiting, do: caller
    twice? = others != [] and :rand.uniform(8) == 1
    if twice?, do: see(:asked_twice)
    caller = if twice?, do: pick(others), else: {:caller, serial}
    request(world, Enum.random(@ids), caller, pick(@requests), nil)
  end

  # In a start of another registry, or of this one.
  defp ask_nested(world) do
    {serial, world} = serial(world)
    caller = {:init, serial}

    case if(coin(), do: pick(can_go_on(world))) do
      nil ->
        see(:nested_elsewhere)
        world = put_in(world.nested[caller], {:elsewhere, serial})
        request(world, Enum.random(@ids), caller, pick(@requests), :elsewhere)

      own ->
        see(:nested_request)
        %{starter: starter, number: number} = world.runs[own]
        ask_nested(put_in(world.nested[caller], {starter, number}), own, caller, starter)
    end
  end

  # Workers start others of higher ids only: else they could wait for each other.
  defp ask_nested(world, own, caller, starter) do
    case Enum.random(own..Enum.max(@ids)) do
      # It has its name.
      ^own when is_map_key(world.workers, own) ->
        request(world, own, caller, :stop, starter)

      ^own ->
        # One that the starter has spawned may be given its name by anybody.
        {kind, starter} =
          pick([{:stop, starter}, {:register, starter}, {{:register, starter}, nil}])

        request(world, own, caller, kind, starter)

      id ->
        if start_first?(line(world, id)), do: see(:nested_behind_others)
        request(world, id, caller, pick(@requests), starter)
    end
  end

  defp start_first?([first | _]), do: start?(first)
  defp start_first?([]), do: false

  # `starter` is what the server is told: in whose start the caller is.
  defp request(world, id, caller, kind, starter) do
    {serial, world} = serial(world)
    from = {caller, serial}

    request =
      case kind do
        :stop -> {:stop, from}
        :register -> {:register, from, {:guest, serial}, nil}
        {:register, parent} -> {:register, from, {:guest, serial}, parent}
        :replace -> {:replace, from, nil, {:args, serial}}
        start -> {start, from, pick(@keys), {:args, serial}}
      end

    note({:request, id, request})
    see(elem(request, 0))
    world = put_in(world.waiting[from], {id, request})

    if is_map_key(world.workers, id) and elem(request, 0) not in [:stop, :replace] do
      see(:known_worker)
      answered(world, request)
    else
      {expected, world} = world |> stand_in_line(id, request) |> own_stop(id, request, starter)
      decided(world, :request, expected, &Schedule.request(&1, id, request, starter))
    end
  end

  # It is answered at once, and keeps its turn.
  defp own_stop(world, id, {:stop, _} = stop, starter) do
    if starter != nil and match?(%{^id => %{starter: ^starter}}, world.runs) do
      see(:own_stop)
      line = List.delete(line(world, id), stop) ++ [{:stop, nil}]
      {[{:reply, stop, :ok}], put_line(world, id, line)}
    else
      {[], world}
    end
  end

  defp own_stop(world, _id, _request, _starter), do: {[], world}

  defp stand_in_line(world, id, request) do
    case {request, world.ending, line(world, id)} do
      {_, %{^id => {{replaces, _}, []}}, line} when replaces in [:replacing, :replaced] ->
        put_line(world, id, line ++ [request])

      {{:stop, _}, %{^id => {what, stops}}, []} ->
        see(:joined_stop)
        put_in(world.ending[id], {what, stops ++ [request]})

      {_, _, line} ->
        put_line(world, id, line ++ [request])
    end
  end

  defp give_up(world, nil), do: world

  defp give_up(world, {caller, _} = from) do
    {id, _request} = world.waiting[from]
    note({:gave_up, id, caller})
    see(:gave_up)
    mine = for {{^caller, _} = from, {^id, _}} <- world.waiting, do: from
    gave_up = MapSet.union(world.gave_up, MapSet.new(mine))
    world = %{world | waiting: Map.drop(world.waiting, mine), gave_up: gave_up}
    decided(world, :gave_up, [], &Schedule.gave_up(&1, id, caller))
  end

  defp caller_dies(world, nil), do: world

  defp caller_dies(world, {caller, _}) do
    note({:caller_died, caller})
    see(:caller_died)
    die(caller)
    no_longer_waiting(world)
  end

  defp no_longer_waiting(world) do
    %{world | waiting: Map.filter(world.waiting, fn {from, _} -> waiting?(from) end)}
  end

  ## Starts

  # Ids whose start may go on.
  defp can_go_on(world) do
    for {id, %{ended?: false, starter: starter}} <- world.runs,
        starter not in world.dead_starters,
        do: id
  end

  # A start ends, unless what it does in its init does not.
  defp can_end(world) do
    for id <- can_go_on(world),
        not Enum.any?(world.waiting, fn {{caller, _}, _} ->
          world.nested[caller] == {world.runs[id].starter, world.runs[id].number}
        end),
        do: id
  end

  defp end_run(world, nil), do: world

  defp end_run(world, id) do
    %{starter: starter, request: request} = world.runs[id]
    {serial, world} = serial(world)
    see(what = pick([:ok, :ok_but_dead, :failed, :failed_alone]))
    # What took the name in its start is the worker, and may stay as a guest if that fails.
    {named, workers} = Map.pop(world.workers, id)
    pid = with {pid, ^starter} <- named, do: pid, else: (_ -> {:worker, serial})

    {outcome, workers} =
      case what do
        :ok -> {{:ok, pid}, Map.put(workers, id, {pid, starter})}
        :ok_but_dead -> {{:ok, pid}, workers}
        :failed -> {{:failed, {:failure, serial}, true}, left(workers, id, named)}
        :failed_alone -> {{:failed, {:failure, serial}, false}, left(workers, id, named)}
      end

    doing = pick([:idle, :handling, :handling, :parent])
    note({what, starter, id, doing})
    world = put_in(%{world | workers: workers}.runs[id].ended?, true)
    world = put_in(world.doing[starter], doing)
    answered(post(world, {:started, starter, id, outcome, doing}), request)
  end

  defp left(workers, _id, nil), do: workers

  defp left(workers, id, {pid, _}),
    do: if(coin(), do: Map.put(workers, id, {pid, nil}), else: workers)

  # Starters in handlers, and parents that have lost workers.
  defp can_rest(world) do
    for starter <- alive(world), world.doing[starter] in [:handling, :parent], do: starter
  end

  # One of them, or all.
  defp rest(world, starters) do
    for starter <- if(coin(), do: starters, else: Enum.take_random(starters, 1)), reduce: world do
      world ->
        state = if world.doing[starter] == :parent, do: :idle, else: pick([:idle, :parent])
        note({:rests, starter, state})
        post(put_in(world.doing[starter], state), {:rested, starter, state})
    end
  end

  defp without_workers(world) do
    parents = for {_id, {_pid, starter}} <- world.workers, do: starter

    for starter <- alive(world),
        world.doing[starter] in [:idle, :parent],
        starter not in parents,
        do: starter
  end

  defp offer_to_end(world, nil), do: world
  defp offer_to_end(world, starter), do: post(world, {:spare, starter})

  defp alive(world), do: Map.keys(world.doing) -- MapSet.to_list(world.dead_starters)

  defp starter_dies(world, nil), do: world
  defp starter_dies(world, starter), do: kill_starter(world, starter)

  ## Ends

  # Not those that are in their init.
  defp can_die(world) do
    for {id, _} <- world.workers, not is_map_key(world.runs, id), do: id
  end

  defp end_worker(world, nil), do: world

  defp end_worker(world, id) do
    note({:worker_died, id})
    see(:worker_died)
    %{world | workers: Map.delete(world.workers, id)}
  end

  defp end_ending(world, nil), do: world

  defp end_ending(world, id) do
    case world.ending[id] do
      {:ended, _} ->
        world

      {{:replacing, request}, []} ->
        see(:replaced)
        post(put_in(world.ending[id], {{:replaced, request}, []}), {:ended, id})

      {{:replaced, _request}, []} ->
        world

      {{:remains, starter}, stops} ->
        # With all that waited in its init.
        see(:cleared)
        for {caller, {^starter, _}} <- world.nested, do: die(caller)
        post(put_in(no_longer_waiting(world).ending[id], {:ended, stops}), {:ended, id})

      {_worker, stops} ->
        see(:stopped)
        post(put_in(world.ending[id], {:ended, stops}), {:ended, id})
    end
  end

  # Messages that are not those of the registry's own processes, or come late, change nothing.
  defp stranger(%{schedule: schedule} = world) do
    id = Enum.random(@ids)
    see(:stranger)
    idle = pick([:stranger | world.idle])
    others = for {other, %{starter: starter}} <- world.runs, other != id, do: starter
    busy = pick([:stranger | others])

    told =
      case :rand.uniform(7) do
        1 -> Schedule.started(schedule, idle, id, {:ok, :pid}, coin(), :idle)
        2 -> Schedule.started(schedule, busy, id, {:failed, :reason, true}, false, :idle)
        3 -> {Schedule.rested(schedule, pick([idle, busy]), :parent), []}
        4 -> Schedule.starter_died(schedule, :stranger, :killed)
        5 when is_map_key(world.ending, id) -> {schedule, []}
        5 -> Schedule.stopped(schedule, id, pick([:ok, {:error, :not_found}]))
        6 -> Schedule.gave_up(schedule, id, :stranger)
        7 -> {Schedule.retire(schedule, busy) || schedule, []}
      end

    note(:stranger)
    assert told == {schedule, []}
    world
  end
end
