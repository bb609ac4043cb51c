defmodule ScheduleWorld.Checks do
  @moduledoc false
  # What is true after every step, and at the end.

  import ExUnit.Assertions
  import ScheduleWorld

  alias GenRegistry.{Line, Schedule, Starters, TermMap, Tickets}

  def check(%{schedule: schedule} = world) do
    queued = queued(world)
    if queued != [], do: see(:queued)

    assert places(world) <= world.max
    assert schedule.places == places(world)
    assert queued == [] or places(world) == world.max, "a place is free"

    flying = Map.keys(world.runs) ++ Map.keys(world.ending) ++ queued
    assert flying -- Enum.uniq(flying) == [], "an id has one flight"
    assert Schedule.counts(schedule) == {length(flying), length(queued)}

    for id <- flying do
      assert Schedule.in_flight?(schedule, id)
      check_flight(world, id, TermMap.fetch!(schedule.flights, id))
    end

    in_order = Enum.sort_by(queued, &age(hd(line(world, &1))))
    assert queued_ids(schedule.queue) == in_order

    check_starters(world)
    world
  end

  def check_end(%{schedule: schedule} = world) do
    assert world.runs == %{}, "they wait for each other"
    assert world.waiting == %{}, "some were not answered"
    assert {Schedule.counts(schedule), schedule.places} == {{0, 0}, 0}
    assert world.lines == %{}
  end

  defp check_flight(world, id, {stage, line}) do
    case stage do
      {:queued, _ticket} ->
        check_queued(world, id)

      {:starting, starter, request, kind} ->
        assert %{starter: ^starter, request: ^request, kind: ^kind} = world.runs[id]

        # Nobody waits for its own start.
        for {_, {caller, _} = from, _, _} <- line(world, id) do
          assert in_init(world, caller) != starter, "#{inspect(from)} waits for its own start"
        end

      {:stopping, stops} ->
        assert {what, expected} = world.ending[id]
        assert not match?({:to_sweep, _}, what), "what is left is not cleared away"
        assert Enum.reverse(stops) == expected

      {:replacing, _ticket, request, _nested?} ->
        assert {{replaces, ^request}, []} = world.ending[id]
        assert replaces in [:replacing, :replaced]
    end

    assert to_list(line) == line(world, id)

    for request <- line(world, id), elem(request, 0) not in [:stop, :replacement] do
      assert from(request) not in world.gave_up, "it gave up"
    end
  end

  defp check_queued(world, id) do
    for request <- line(world, id) do
      refute nested?(world, request), "#{inspect(request)} is nested, and waits for a place"
    end
  end

  defp check_starters(%{schedule: %{starters: starters}} = world) do
    states =
      Map.new(starters.states, fn
        {pid, {:starting, id}} ->
          assert world.runs[id].starter == pid
          {pid, :starting}

        {pid, {:idle, _turn}} ->
          {pid, :idle}

        other ->
          other
      end)

    assert states == world.starters
    assert Enum.sort(Starters.pids(starters)) == Enum.sort(Map.keys(world.starters))
    assert Starters.count(starters) == map_size(world.starters)
    assert Starters.next(starters) == List.first(world.idle)
  end

  defp to_list(line) do
    case Line.first(line) do
      nil -> []
      {ticket, request} -> [request | to_list(Line.delete(line, ticket, request))]
    end
  end

  defp queued_ids(queue) do
    case Tickets.first(queue) do
      nil -> []
      {ticket, id} -> [id | queued_ids(Tickets.delete(queue, ticket))]
    end
  end
end
