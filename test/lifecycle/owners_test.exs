defmodule GenRegistry.OwnersTest do
  @moduledoc """
  Of all who start an id, one knows that it did.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  # All wait for one word. Answers what `start/4` answered to each, with its number.
  defp race(registry, id, racers) do
    test = self()

    pids =
      for racer <- 1..racers do
        spawn_link(fn ->
          receive do
            :go -> :ok
          end

          # The worker has its owner's number.
          answer =
            GenRegistry.start(registry, id, [fn -> {:ok, fn _ -> racer end} end], :infinity)

          send(test, {:answer, racer, answer})
        end)
      end

    Enum.each(pids, &go/1)

    for _ <- pids do
      assert_receive {:answer, racer, answer}
      {racer, answer}
    end
  end

  test "a race has one owner", context do
    registry = registry(context)

    for id <- 1..50 do
      {owners, others} = registry |> race(id, 100) |> Enum.split_with(&match?({_, {:ok, _}}, &1))
      assert [{owner, {:ok, worker}}] = owners
      assert length(others) == 99
      for {_, answer} <- others, do: assert(answer == {:error, {:already_started, worker}})
      assert :sys.get_state(worker).(:whose) == owner
    end

    assert GenRegistry.count(registry) == 50
  end

  test "so has each that follows its end", context do
    registry = registry(context)

    for end_it <- [&GenRegistry.stop(registry, elem(&1, 0)), &kill(elem(&1, 1))], _ <- 1..20 do
      answers = race(registry, :id, 50)
      assert [{_, {:ok, worker}}] = Enum.filter(answers, &match?({_, {:ok, _}}, &1))
      assert end_it.({:id, worker}) == :ok
    end
  end
end
