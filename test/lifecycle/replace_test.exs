defmodule GenRegistry.ReplaceTest do
  @moduledoc """
  A replacement ends an id's worker and starts another, in one turn of the id's line.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  test "the old worker has ended before the new one begins", context do
    registry = registry(context)
    old = start!(registry, :id, held_at_end(:end))
    replace = ask(:replace, registry, :id, [held(:init)])
    assert reached({:end, :shutdown}) == old
    assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
    refute_received {:init, _}
    assert_waits(replace, registry)
    go(old)
    new = reached(:init)
    refute Process.alive?(old)
    go(new)
    assert answer(replace) == {:ok, new}
    assert GenRegistry.to_list(registry) == [id: new]
  end

  test "without a worker it starts one", context do
    registry = registry(context)
    assert {:ok, pid} = GenRegistry.replace(registry, :id, [plain()])
    assert GenRegistry.lookup(registry, :id) == {:ok, pid}
  end

  test "several who replace get a worker each, in order, and nobody comes in between", context do
    registry = registry(context)
    start!(registry, :id)
    first = ask(:replace, registry, :id, [held({:init, 1})])
    second = ask(:replace, registry, :id, [held({:init, 2})])
    lookup = ask(:lookup_or_start, registry, :id, [held(:never)])
    start = ask(:start, registry, :id, [held(:never)])
    third = ask(:replace, registry, :id, [held({:init, 3})])
    one = reached({:init, 1})
    go(one)
    assert answer(first) == {:ok, one}
    two = reached({:init, 2})
    refute Process.alive?(one)
    assert_waits(lookup, registry)
    go(two)
    assert answer(second) == {:ok, two}
    # These stood before the third.
    assert answer(lookup) == {:ok, two}
    assert answer(start) == {:error, {:already_started, two}}
    three = reached({:init, 3})
    go(three)
    assert answer(third) == {:ok, three}
    refute Process.alive?(two)
    refute_received {:never, _}
  end

  test "it goes on though its caller gives up, but not if that was before its turn", context do
    registry = registry(context)
    old = start!(registry, :id, held_at_end(:end))
    begun = ask(:replace, registry, :id, [held(:init)])
    given_up = ask(:replace, registry, :id, [held(:never)])
    assert reached({:end, :shutdown}) == old
    for asker <- [begun, given_up], do: kill(asker.pid)
    go(old)
    new = reached(:init)
    lookup = ask(:lookup_or_start, registry, :id, [held(:never)])
    go(new)
    assert answer(lookup) == {:ok, new}
    assert GenRegistry.to_list(registry) == [id: new]
    refute_received {:never, _}
  end

  test "a failure is its caller's alone", context do
    registry = registry(context)
    old = start!(registry, :id, held_at_end(:end))
    test = self()

    fails = fn ->
      wait(test, :fails)
      {:stop, {:shutdown, :failed}}
    end

    first = ask(:replace, registry, :id, [fails])
    second = ask(:replace, registry, :id, [fails])
    assert reached({:end, :shutdown}) == old
    go(old)
    reached(:fails) |> go()
    assert answer(first) == {:error, {:shutdown, :failed}}
    # It has a try of its own.
    reached(:fails) |> go()
    assert answer(second) == {:error, {:shutdown, :failed}}
    assert GenRegistry.count(registry) == 0
  end

  test "it has the old worker's place at a full bound, whoever else wants it", context do
    registry = registry(context, max_children: 2, max_starting: 1)
    old = start!(registry, 1, held_at_end(:end))
    start!(registry, 2)
    replace = ask(:replace, registry, 1, [held(:init)])
    assert reached({:end, :shutdown}) == old
    # It takes the only place of those that start, while the bound has none left.
    go(old)
    new = reached(:init)
    assert GenRegistry.start(registry, 3, [plain()]) == {:error, :max_children}
    go(new)
    assert answer(replace) == {:ok, new}
    assert GenRegistry.start(registry, 3, [plain()]) == {:error, :max_children}
    assert GenRegistry.replace(registry, 3, [plain()]) == {:error, :max_children}
    # What has failed gives the place back.
    assert GenRegistry.replace(registry, 1, [fn -> {:stop, {:shutdown, :no}} end]) ==
             {:error, {:shutdown, :no}}

    start!(registry, 3)
    assert GenRegistry.start(registry, 4, [plain()]) == {:error, :max_children}
  end

  test "its place is kept while it waits for one of those that start", context do
    registry = registry(context, max_children: 2, max_starting: 1)
    old = start!(registry, 1, held_at_end(:end))
    replace = ask(:replace, registry, 1, [plain()])
    assert reached({:end, :shutdown}) == old
    other = ask(:start, registry, 2, [held(:init)])
    init = reached(:init)
    go(old)
    until(fn -> GenRegistry.info(registry).queued == 1 end)
    assert GenRegistry.start(registry, 3, [plain()]) == {:error, :max_children}
    go(init)
    assert {:ok, _} = answer(replace)
    assert {:ok, _} = answer(other)
  end

  test "a slow end takes no place of those that start", context do
    registry = registry(context, max_starting: 1)
    old = start!(registry, 1, held_at_end(:end))
    replace = ask(:replace, registry, 1, [plain()])
    assert reached({:end, :shutdown}) == old
    start!(registry, 2)
    go(old)
    assert {:ok, _} = answer(replace)
  end

  test "what took its name itself is left alone", context do
    registry = registry(context)
    {:ok, guest} = Agent.start(fn -> nil end, name: {:via, GenRegistry, {registry, :id}})
    assert GenRegistry.replace(registry, :id, [plain()]) == {:error, :not_supervised}
    by_itself = Agent.get(guest, fn _ -> GenRegistry.replace(registry, :id, [plain()]) end)
    assert by_itself == {:error, :not_supervised}
    assert GenRegistry.lookup(registry, :id) == {:ok, guest}
  end

  test "a worker that replaces itself is told so", context do
    registry = registry(context)
    worker = start!(registry, :id)
    replace = fn -> GenRegistry.replace(registry, :id, [plain()]) end
    assert LifecycleWorker.run(worker, replace) == {:error, {:deadlock, [{registry, :id}]}}
    assert GenRegistry.lookup(registry, :id) == {:ok, worker}
    # In its own start, too.
    test = self()
    init = in_init(fn -> send(test, {:told, replace.()}) end)
    assert {:ok, _} = GenRegistry.replace(registry, :id, init)
    assert_receive {:told, {:error, {:deadlock, [{^registry, :id}]}}}
  end

  test "by pid it is the same; when the registry ends it is a shutdown", context do
    registry = registry(context)
    server = Process.whereis(registry)
    old = start!(registry, :id)
    assert {:ok, new} = GenRegistry.replace(server, :id, [held_at_end(:end)])
    refute new == old or Process.alive?(old)
    replace = ask(:replace, registry, :id, [plain()])
    assert reached({:end, :shutdown}) == new
    ends = ask(fn -> end_registry(registry) end)
    assert answer(replace) == {:error, :shutdown}
    go(new)
    assert answer(ends) == :ok
  end
end
