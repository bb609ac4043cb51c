defmodule ScheduleWorld.News do
  @moduledoc false
  # What the server hears of what has happened, in order, and what it tells the schedule.

  import ExUnit.Assertions
  import ScheduleWorld
  import ScheduleWorld.Actions

  alias GenRegistry.Schedule

  # So many idle starters stay though they have no workers.
  @ready 4

  def deliver(%{mailbox: []} = world), do: world

  def deliver(%{mailbox: [message | mailbox]} = world) do
    note({:deliver, message})
    heard(%{world | mailbox: mailbox}, message)
  end

  defp heard(world, {:started, starter, id, outcome, doing}) do
    {%{starter: ^starter, request: request}, world} = pop_in(world.runs[id])

    # A worker, or a guest that a failed start left.
    {outcome, alive?} =
      case world.workers do
        %{^id => {pid, _}} -> {{:ok, pid}, true}
        %{} -> {outcome, false}
      end

    if match?({_, nil}, world.workers[id]), do: see(:left_a_guest)

    expected =
      case outcome do
        {:ok, pid} -> if alive?, do: served(world, id, pid), else: []
        {:failed, reason, true} -> [{:share, equal(world, id, request), reason}]
        {:failed, reason, false} -> [{:share, [], reason}]
      end

    decided(put_starter(world, starter, doing), :started, expected, fn schedule ->
      Schedule.started(schedule, starter, id, outcome, alive?, doing)
    end)
  end

  defp heard(world, {:rested, starter, state}) do
    was = world.starters[starter]
    schedule = Schedule.rested(world.schedule, starter, state)
    if was == :parent and state == :idle, do: see(:idle_after_parent)
    see(if state == :parent, do: :became_a_parent, else: :rested)

    # It may have been let go of meanwhile.
    if was == nil do
      assert schedule == world.schedule
      world
    else
      put_starter(%{world | schedule: schedule}, starter, state)
    end
  end

  defp heard(world, {:spare, starter}) do
    was = world.starters[starter]

    case Schedule.retire(world.schedule, starter) do
      nil ->
        see(if was == :idle, do: :kept_ready, else: :kept_busy)
        assert was in [nil, :starting] or (was == :idle and length(world.idle) <= @ready)
        world

      schedule ->
        see(if was == :idle, do: :retired_idle, else: :retired_parent)
        assert was == :parent or (was == :idle and length(world.idle) > @ready)
        world = forget_starter(%{world | schedule: schedule}, starter)
        if starter in world.dead_starters, do: world, else: kill_starter(world, starter)
    end
  end

  defp heard(world, {:exit, starter}) do
    was = world.starters[starter]
    world = forget_starter(world, starter)

    case run_of(world, starter) do
      nil ->
        see_died(was)
        decided(world, :exit, [], &Schedule.starter_died(&1, starter, :killed))

      {id, %{request: request}} ->
        see(:busy_starter_died)
        {_run, world} = pop_in(world.runs[id])
        world = put_in(world.ending[id], {{:to_sweep, starter}, []})
        expected = [{:reply, request, {:error, {:starter_died, :killed}}}]
        decided(world, :exit, expected, &Schedule.starter_died(&1, starter, :killed))
    end
  end

  defp heard(world, {:ended, id}) do
    case world.workers do
      # A dead starter's last start had left it.
      %{^id => {pid, nil}} -> not_supervised(world, id, pid)
      %{} -> stopped(world, id, pick([:ok, {:error, :not_found}]))
    end
  end

  # Those with equal arguments, up to the first stop or registration.
  defp equal(_world, _id, {_, _, nil, _}), do: []

  defp equal(world, id, {_, _, key, _}) do
    {starts, beyond} = Enum.split_while(line(world, id), &start?/1)
    equal = Enum.filter(starts, &match?({_, _, ^key, _}, &1))
    if equal != [], do: see(:shared)

    if Enum.any?(beyond, &match?({_, _, ^key, _}, &1)), do: see(:equal_beyond_a_barrier)
    equal
  end

  defp see_died(:idle), do: see(:idle_starter_died)
  defp see_died(:handling), do: see(:handling_starter_died)
  defp see_died(:parent), do: see(:parent_died)
  defp see_died(nil), do: :ok
end
