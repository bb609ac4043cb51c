defmodule GenRegistry.RacingCallersTest do
  @moduledoc """
  Of all who ask for an id at once, one starts it, and each is told what became of that.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  # An init that tells that it runs, waits, and fails.
  defp failing(where), do: held(where, {:stop, {:shutdown, where}})

  test "thousands of callers have one start, and all its worker", context do
    registry = registry(context)
    starts = :counters.new(1, [])
    test = self()

    init = fn ->
      :counters.add(starts, 1, 1)
      wait(test, :init)
      {:ok, nil}
    end

    first = ask(:lookup_or_start, registry, :id, [init])
    worker = reached(:init)

    others =
      ask_all(
        for n <- 1..5_000 do
          function = if rem(n, 2) == 0, do: :lookup_or_start, else: :start
          fn -> {function, apply(GenRegistry, function, [registry, :id, [init], :infinity])} end
        end
      )

    go(worker)
    assert answer(first) == {:ok, worker}

    for other <- others do
      case answer(other) do
        {:lookup_or_start, answer} -> assert answer == {:ok, worker}
        {:start, answer} -> assert answer == {:error, {:already_started, worker}}
      end
    end

    assert :counters.get(starts, 1) == 1
    assert GenRegistry.to_list(registry) == [id: worker]
  end

  test "a start that fails is its own caller's: the next one's arguments are tried", context do
    registry = registry(context)
    first = ask(:lookup_or_start, registry, :id, [failing(:first)])
    init = reached(:first)

    second = ask(:start, registry, :id, [failing(:second)])
    third = ask(:lookup_or_start, registry, :id, [held(:third)])
    fourth = ask(:start, registry, :id, [failing(:fourth)])
    fifth = ask(:lookup_or_start, registry, :id, [failing(:fifth)])

    go(init)
    assert answer(first) == {:error, {:shutdown, :first}}
    reached(:second) |> go()
    assert answer(second) == {:error, {:shutdown, :second}}
    worker = reached(:third)
    assert_waits(third, registry)
    assert_waits(fourth, registry)
    assert_waits(fifth, registry)
    go(worker)

    assert answer(third) == {:ok, worker}
    assert answer(fourth) == {:error, {:already_started, worker}}
    assert answer(fifth) == {:ok, worker}
    refute_received {:fourth, _}
    refute_received {:fifth, _}
  end

  # They have not looked for themselves, or before it was there.
  test "whom the registry has a worker for already, it starts nothing for", context do
    registry = registry(context)
    server = Process.whereis(registry)
    worker = start!(registry, :id)
    assert GenRegistry.lookup_or_start(server, :id, [failing(:second)]) == {:ok, worker}

    assert GenRegistry.start(server, :id, [failing(:third)]) ==
             {:error, {:already_started, worker}}

    refute_received {:second, _}
    refute_received {:third, _}
  end

  describe "nothing is started for a caller" do
    test "that waits no more", context do
      registry = registry(context)
      ask(:start, registry, :id, [failing(:first)])
      init = reached(:first)

      assert {:timeout, _} =
               catch_exit(GenRegistry.lookup_or_start(registry, :id, [failing(:given_up)], 0))

      assert {:timeout, _} = catch_exit(GenRegistry.start(registry, :id, [failing(:given_up)], 0))
      third = ask(:start, registry, :id, [plain()])
      go(init)
      assert {:ok, _} = answer(third)
      refute_received {:given_up, _}
    end

    test "that is dead", context do
      registry = registry(context)
      ask(:start, registry, :id, [failing(:first)])
      init = reached(:first)
      dead = ask(:start, registry, :id, [failing(:dead)])
      third = ask(:start, registry, :id, [plain()])
      kill(dead.pid)
      go(init)
      assert {:ok, _} = answer(third)
      refute_received {:dead, _}
    end

    test "that waited in the queue", context do
      registry = registry(context, max_starting: 1)
      first = ask(:start, registry, :first, [held(:first)])
      init = reached(:first)
      dead = ask(:start, registry, :dead, [failing(:dead)])
      assert {:timeout, _} = catch_exit(GenRegistry.start(registry, :gone, [failing(:gone)], 0))
      last = ask(:start, registry, :last, [plain()])
      kill(dead.pid)
      go(init)
      assert answer(first) == {:ok, init}
      assert {:ok, _} = answer(last)
      refute_received {:dead, _}
      refute_received {:gone, _}
      assert GenRegistry.count(registry) == 2
    end

    test "that waited in the queue, before one that need not wait there", context do
      registry = registry(context, max_starting: 1)
      test = self()
      inner = plain()

      init = fn ->
        wait(test, :outer)
        {:ok, _} = GenRegistry.lookup_or_start(registry, :inner, [inner])
        {:ok, nil}
      end

      outer = ask(:start, registry, :outer, [init])
      init = reached(:outer)
      dead = ask(:start, registry, :inner, [failing(:dead)])
      assert_waits(dead, registry)
      kill(dead.pid)
      go(init)
      assert answer(outer) == {:ok, init}
      refute_received {:dead, _}
    end

    test "but for others who wait for the same id in the queue, in the same place", context do
      registry = registry(context, max_starting: 1)
      first = ask(:start, registry, :first, [held(:first)])
      init = reached(:first)
      gone = ask(:start, registry, :id, [failing(:gone)], 100)
      second = ask(:start, registry, :id, [held(:second)])
      third = ask(:start, registry, :last, [held(:third)])
      assert {:exit, {:timeout, _}} = answer(gone)
      go(init)
      assert answer(first) == {:ok, init}
      init = reached(:second)
      assert_waits(third, registry)
      refute_received {:third, _}
      go(init)
      assert answer(second) == {:ok, init}
      reached(:third) |> go()
      assert {:ok, _} = answer(third)
      refute_received {:gone, _}
    end
  end

  test "a start that has begun goes on without its caller", context do
    registry = registry(context)
    init = held(:init)
    assert {:timeout, _} = catch_exit(GenRegistry.start(registry, :id, [init], 10))
    worker = reached(:init)
    second = ask(:lookup_or_start, registry, :id, [failing(:second)])

    dead = ask(:start, registry, :other, [held(:other)])
    other = reached(:other)
    kill(dead.pid)
    third = ask(:start, registry, :other, [failing(:third)])

    go(worker)
    go(other)
    assert answer(second) == {:ok, worker}
    assert answer(third) == {:error, {:already_started, other}}
    assert Enum.sort(GenRegistry.to_list(registry)) == [id: worker, other: other]
  end
end
