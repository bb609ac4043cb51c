defmodule GenRegistry.InOrderTest do
  @moduledoc """
  Places go by the time of each request, over all ids, whatever became of the starts before.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  # A request with arguments of its own, whose start tells when it has its turn. It fails when it is let
  # go.
  defp ask_failing(registry, id, n) do
    ask(:lookup_or_start, registry, id, [:answer, telling(n, {:error, {:shutdown, n}})])
  end

  defp telling(n, answer) do
    test = self()

    fn ->
      wait(test, {:turn, n})
      answer
    end
  end

  # Which one has its turn now.
  defp next do
    assert_receive {{:turn, n}, starter}
    {n, starter}
  end

  # In which order all of them have their turns.
  defp turns(0), do: []

  defp turns(left) do
    {n, starter} = next()
    refute_received {{:turn, _}, _}
    go(starter)
    [n | turns(left - 1)]
  end

  test "a failing id with callers in its line gives its place to who asked before them",
       context do
    registry = registry(context, max_starting: 1)
    first = ask_failing(registry, :bad, 1)
    {1, starter} = next()
    good = ask(:start, registry, :good, [held({:turn, 2})])
    later = for n <- 3..5, do: ask_failing(registry, :bad, n)
    go(starter)
    assert answer(first) == {:error, {:shutdown, 1}}
    assert turns(4) == [2, 3, 4, 5]
    assert {:ok, _} = answer(good)
    for {asker, n} <- Enum.zip(later, 3..5), do: assert(answer(asker) == {:error, {:shutdown, n}})
  end

  test "requests that are mixed over some ids have their turns as they came", context do
    registry = registry(context, max_starting: 1)
    ids = [:a, :b, :a, :c, :b, :a, :d, :a, :c, :b, :d, :d, :e, :a, :b]
    askers = for {id, n} <- Enum.with_index(ids, 1), do: ask_failing(registry, id, n)
    assert turns(length(ids)) == Enum.to_list(1..length(ids))

    for {asker, n} <- Enum.with_index(askers, 1),
        do: assert(answer(asker) == {:error, {:shutdown, n}})
  end

  test "so they do with several places", context do
    registry = registry(context, max_starting: 3)
    ids = for n <- 1..30, do: rem(n * 7, 4)
    for {id, n} <- Enum.with_index(ids, 1), do: ask_failing(registry, id, n)
    # One id has one place at most: whoever waits for that alone is passed by.
    expected_next = fn waiting, running ->
      Enum.find(waiting, fn n ->
        Enum.at(ids, n - 1) not in Enum.map(running, &Enum.at(ids, &1 - 1))
      end)
    end

    play = fn play, waiting, running, starters ->
      case length(running) < 3 && expected_next.(waiting, running) do
        n when is_integer(n) ->
          assert_receive {{:turn, ^n}, starter}
          play.(play, waiting -- [n], running ++ [n], Map.put(starters, n, starter))

        _ when running == [] ->
          assert waiting == []

        _ ->
          refute_received {{:turn, _}, _}
          # The second one that runs is done, or the only one.
          n = Enum.at(running, 1) || hd(running)
          go(starters[n])
          play.(play, waiting, running -- [n], starters)
      end
    end

    play.(play, Enum.to_list(1..30), [], %{})
  end

  test "one that had to wait for a stop has its turn before those that came after it", context do
    registry = registry(context, max_starting: 1)
    old = start!(registry, :stopped, held_at_end(:end))
    stop = ask(:stop, registry, :stopped)
    assert reached({:end, :shutdown}) == old
    ask_failing(registry, :running, 1)
    {1, starter} = next()
    ask_failing(registry, :stopped, 2)
    ask_failing(registry, :other, 3)
    ask_failing(registry, :stopped, 4)
    go(old)
    assert answer(stop) == :ok
    :sys.get_state(registry)
    go(starter)
    assert turns(3) == [2, 3, 4]
  end
end
