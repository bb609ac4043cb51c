defmodule GenRegistry.ScheduleCostTest do
  @moduledoc """
  Whatever happens costs the same per request that it answers, up to a logarithm, however much is in
  flight. Reductions are counted, not time.
  """

  use ExUnit.Case, async: true

  alias GenRegistry.Schedule

  @few 10
  @many 100_000
  # A logarithm makes it 5 times as many.
  @most 10

  defp new(max_starting), do: Schedule.new(max_starting, fn _from -> true end)
  defp from(n), do: {{:caller, n}, n}
  defp start(n, key), do: {:start, from(n), key, :work}

  defp request(schedule, id, request), do: Schedule.request(schedule, id, request, nil)

  # One place, which `:busy` has with the arguments `:key`.
  defp busy do
    {schedule, [{:start, :new, :busy, _}]} = request(new(1), :busy, start(0, :key))
    Schedule.assigned(schedule, :busy, :s1)
  end

  # So many ask for what `id` says for each, with arguments that `key` says.
  defp join(schedule, count, id, key) do
    for n <- 1..count, reduce: schedule do
      schedule -> schedule |> request(id.(n), start(n, key.(n))) |> elem(0)
    end
  end

  # The schedules that `make` returns with few in flight, and with many.
  defp both(make), do: [{make.(@few), @few}, {make.(@many), @many}]

  # What each of these events takes in both. The least of several tries: now and then garbage is
  # collected in one.
  defp assert_flat(both, events) do
    for {name, event} <- events do
      [few, many] =
        for {schedule, count} <- both do
          for(_ <- 1..5, do: reductions(fn -> event.(schedule, count) end)) |> Enum.min()
        end

      assert many < few * @most, "#{name}: #{few} reductions at #{@few}, #{many} at #{@many}"
    end
  end

  defp reductions(fun) do
    {:reductions, before} = Process.info(self(), :reductions)
    fun.()
    {:reductions, now} = Process.info(self(), :reductions)
    now - before
  end

  # Lets an event happen to five of those there are, from all over.
  defp some(schedule, count, event) do
    for n <- 1..5, reduce: schedule do
      schedule -> event.(schedule, div(n * count, 5)) |> elem(0)
    end
  end

  defp started(schedule, starter, id) do
    Schedule.started(schedule, starter, id, {:ok, :w}, true, :idle)
  end

  defp failed(schedule, id) do
    Schedule.started(schedule, :s1, id, {:failed, :reason, true}, false, :idle)
  end

  test "with many in one line that waits for a place" do
    assert_flat(both(&join(busy(), &1, fn _ -> :a end, fn n -> n end)),
      arrival: fn schedule, count ->
        request(schedule, :a, start(count + 1, :key))
      end,
      giving_up: fn schedule, count ->
        some(schedule, count, fn schedule, n ->
          {_, [{:forget, _}]} = Schedule.gave_up(schedule, :a, {:caller, n})
        end)
      end,
      nested: fn schedule, count ->
        {_, [{:start, :new, :a, _}]} =
          Schedule.request(schedule, :a, start(count + 1, :key), :starter)
      end
    )
  end

  test "with many who wait for a start, none of them with its arguments" do
    assert_flat(both(&join(busy(), &1, fn _ -> :busy end, fn n -> n end)),
      failures: fn schedule, count ->
        some(schedule, count, fn schedule, _n ->
          {_, [{:share, [], :reason}, {:start, :s1, :busy, _}]} = failed(schedule, :busy)
        end)
      end,
      nested: fn schedule, count ->
        {_, []} = Schedule.request(schedule, :busy, start(count + 1, :key), :starter)
      end
    )
  end

  test "with many who have the same arguments, but come after a stop" do
    assert_flat(
      both(fn count ->
        {schedule, _} = request(busy(), :busy, {:stop, from(0)})
        join(schedule, count, fn _ -> :busy end, fn _ -> :key end)
      end),
      failure: fn schedule, _count ->
        {_, [{:share, [], :reason}, {:stop, :busy}]} = failed(schedule, :busy)
      end
    )
  end

  test "with many ids that wait for a place" do
    assert_flat(both(&join(busy(), &1, fn n -> n end, fn n -> n end)),
      arrival: fn schedule, count ->
        request(schedule, count + 1, start(count + 1, :key))
      end,
      giving_up: fn schedule, count ->
        some(schedule, count, fn schedule, n ->
          {_, [{:forget, _}]} = Schedule.gave_up(schedule, n, {:caller, n})
        end)
      end,
      nested: fn schedule, count ->
        some(schedule, count, fn schedule, n ->
          {_, [{:start, :new, ^n, _}]} =
            Schedule.request(schedule, n, start(count + n, :key), :starter)
        end)
      end,
      end_of_a_start: fn schedule, _count ->
        {schedule, [:fill_places]} = started(schedule, :s1, :busy)
        {schedule, [{:start, :s1, 1, _}]} = Schedule.fill_places(schedule)
        {schedule, [:fill_places]} = started(schedule, :s1, 1)
        {_, [{:start, :s1, 2, _}]} = Schedule.fill_places(schedule)
      end
    )
  end

  test "with many starters" do
    busy =
      both(fn count ->
        for n <- 1..count, reduce: new(count) do
          schedule ->
            {schedule, [{:start, :new, ^n, _}]} = request(schedule, n, start(n, n))
            Schedule.assigned(schedule, n, {:starter, n})
        end
      end)

    idle =
      for {schedule, count} <- busy do
        {Enum.reduce(1..count, schedule, &elem(started(&2, {:starter, &1}, &1), 0)), count}
      end

    dies = fn schedule, count ->
      some(schedule, count, &Schedule.starter_died(&1, {:starter, &2}, :killed))
    end

    assert_flat(busy, death_of_a_busy_one: dies)

    assert_flat(idle,
      death_of_an_idle_one: dies,
      start: fn schedule, _ ->
        {_, [{:start, {:starter, _}, :a, _}]} = request(schedule, :a, start(0, :key))
      end,
      retirement: fn schedule, count ->
        some(schedule, count, &{Schedule.retire(&1, {:starter, &2}), []})
      end
    )
  end

  # Per request.
  test "all are answered by a start that succeeds, or fails" do
    both = both(&join(busy(), &1, fn _ -> :busy end, fn _ -> :key end))

    for answer <- [&started(&1, :s1, :busy), &failed(&1, :busy)] do
      [few, many] =
        for {schedule, count} <- both, do: reductions(fn -> answer.(schedule) end) / count

      assert many < few * @most, "#{few} reductions each at #{@few}, #{many} at #{@many}"
    end
  end
end
