defmodule GenRegistry.DeathsTest do
  @moduledoc """
  A worker that ends is forgotten by the VM itself, and is answered to nobody who starts or looks
  for one from the moment it is dead.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  describe "with the server and the starters suspended" do
    defp suspended(context, workers) do
      registry = registry(context)
      pids = for id <- 1..workers, do: start!(registry, id)
      suspended = [registry | pids |> Enum.map(&starter/1) |> Enum.uniq()]
      Enum.each(suspended, &:sys.suspend/1)
      {registry, pids, suspended}
    end

    test "a worker whose end has been seen is not found, and not counted", context do
      {registry, pids, suspended} = suspended(context, 100)

      for {pid, id} <- Enum.with_index(pids, 1) do
        kill(pid)
        assert GenRegistry.lookup(registry, id) == {:error, :not_found}
        assert GenRegistry.count(registry) == 100 - id
        assert length(GenRegistry.to_list(registry)) == 100 - id
      end

      assert GenRegistry.sample(registry) == nil
      Enum.each(suspended, &:sys.resume/1)
    end

    test "so are all of them when they die at once", context do
      {registry, pids, suspended} = suspended(context, 1_000)
      monitors = Enum.map(pids, &Process.monitor/1)
      for pid <- pids, do: Process.exit(pid, :kill)

      for {monitor, id} <- Enum.with_index(monitors, 1) do
        down_of(monitor)
        assert GenRegistry.lookup(registry, id) == {:error, :not_found}
      end

      assert GenRegistry.count(registry) == 0
      assert GenRegistry.to_list(registry) == []
      Enum.each(suspended, &:sys.resume/1)
    end
  end

  # The VM undoes much of a process before it tells of its death.
  describe "a worker that is dead, with its last news late," do
    # Starts a worker, kills it, and calls `meanwhile` while its news is late.
    defp dying(registry, burden, size, meanwhile) do
      while_undone(size, fn size ->
        init = fn ->
          apply(Lifecycle, burden, [size])
          {:ok, nil}
        end

        old = start!(registry, :id, init)
        monitor = strike(old)
        new = meanwhile.(old)
        late? = being_undone?(monitor)

        # What comes late harms nothing.
        if late?, do: assert(down_of(monitor) == :killed)
        assert GenRegistry.lookup(registry, :id) == {:ok, new}
        assert GenRegistry.count(registry) == 1
        assert GenRegistry.to_list(registry) == [id: new]
        assert Process.alive?(new)
        assert GenRegistry.stop(registry, :id) == :ok
        late?
      end)
    end

    for {why, burden, size} <- [
          {"as it owned a large table", :own_large_table, 300_000},
          {"as it had many links", :link_to_many, 20_000}
        ] do
      test "is not answered by lookup_or_start (#{why})", context do
        registry = registry(context)

        dying(registry, unquote(burden), unquote(size), fn old ->
          assert {:ok, new} = GenRegistry.lookup_or_start(registry, :id, [plain()])
          assert new != old
          new
        end)
      end

      test "is not answered by start (#{why})", context do
        registry = registry(context)

        dying(registry, unquote(burden), unquote(size), fn _old ->
          assert {:ok, new} = GenRegistry.start(registry, :id, [plain()])
          new
        end)
      end

      # By its pid: callers look nothing up themselves.
      test "is not answered by the server either (#{why})", context do
        registry = registry(context)
        server = Process.whereis(registry)

        dying(registry, unquote(burden), unquote(size), fn old ->
          assert {:ok, new} = GenRegistry.lookup_or_start(server, :id, [plain()])
          assert new != old
          new
        end)
      end
    end
  end

  # `Process.alive?/1` waits until all of a dead process is undone: nobody may wait for that.
  describe "what the VM does to undo a dead process delays nobody else:" do
    test "a worker that dies when its start is over", context do
      registry = registry(context)
      test = self()

      while_undone(300_000, fn size ->
        init = fn ->
          own_large_table(size)
          wait(test, :init)
          {:ok, nil}
        end

        first = ask(:start, registry, size, [init])
        worker = reached(:init)
        second = ask(:lookup_or_start, registry, size, [plain()])
        :sys.suspend(registry)
        go(worker)
        assert answer(first) == {:ok, worker}
        monitor = strike(worker)
        :sys.resume(registry)

        start!(registry, {:other, size})
        assert {:ok, new} = answer(second)
        assert new != worker
        being_undone?(monitor)
      end)
    end

    test "a caller that waited for a start", context do
      registry = registry(context)
      arg = plain()

      while_undone(300_000, fn size ->
        first = ask(:start, registry, size, [held(:first, {:stop, {:shutdown, :failed}})])
        init = reached(:first)

        caller =
          ask(fn ->
            own_large_table(size)
            GenRegistry.start(registry, size, [arg], :infinity)
          end)

        third = ask(:lookup_or_start, registry, size, [held(:third)])
        monitor = strike(caller.pid)
        go(init)
        assert {:error, _} = answer(first)
        worker = reached(:third)
        go(worker)
        assert answer(third) == {:ok, worker}
        being_undone?(monitor)
      end)
    end

    test "a worker that is dead when the registry ends", context do
      registry = registry(context)

      while_undone(300_000, fn size ->
        init = fn ->
          own_large_table(size)
          {:ok, nil}
        end

        server = Process.whereis(registry)
        dead = start!(registry, :dead, init)
        other = start!(registry, :other, held_at_end(:end))
        monitor = strike(dead)
        stopped = ask(fn -> GenServer.stop(server, :normal, :infinity) end)
        assert reached({:end, :shutdown}) == other
        late? = being_undone?(monitor)
        go(other)
        assert answer(stopped) == :ok
        restarted(registry, server)
        late?
      end)
    end
  end

  describe "a worker that dies when its start is over, but the server has not heard of it," do
    test "is not given to those who waited for it", context do
      registry = registry(context)
      first = ask(:start, registry, :id, [held(:first)])
      dead = reached(:first)
      second = ask(:lookup_or_start, registry, :id, [plain()])
      third = ask(:start, registry, :id, [plain()])
      :sys.suspend(registry)
      go(dead)
      assert answer(first) == {:ok, dead}
      kill(dead)
      :sys.resume(registry)

      assert {:ok, new} = answer(second)
      assert new != dead
      assert answer(third) == {:error, {:already_started, new}}
      assert GenRegistry.to_list(registry) == [id: new]
    end

    test "is not given to those who come now", context do
      registry = registry(context)
      first = ask(:start, registry, :id, [held(:first)])
      dead = reached(:first)
      :sys.suspend(registry)
      go(dead)
      assert answer(first) == {:ok, dead}
      kill(dead)
      second = ask(:lookup_or_start, registry, :id, [plain()])
      :sys.resume(registry)

      assert {:ok, new} = answer(second)
      assert new != dead
    end
  end

  describe "leaves nothing behind:" do
    test "a worker that unlinked itself", context do
      registry = registry(context)

      init = fn ->
        [parent | _] = Process.get(:"$ancestors")
        Process.unlink(parent)
        {:ok, nil}
      end

      worker = start!(registry, :id, init)
      kill(worker)
      assert_nothing_left(registry)
      assert {:ok, _} = GenRegistry.lookup_or_start(registry, :id, [plain()])
    end

    test "one that was started without a link", context do
      registry = registry(context)
      assert {:ok, worker} = GenRegistry.start(registry, :id, [:without_link, plain()])
      assert GenRegistry.lookup(registry, :id) == {:ok, worker}
      kill(worker)
      assert_nothing_left(registry)
      assert {:ok, _} = GenRegistry.lookup_or_start(registry, :id, [plain()])
    end

    test "one that dies before it is registered", context do
      registry = registry(context)

      for spawn <- [&spawn/1, &spawn_link/1] do
        start_link = fn ->
          pid = spawn.(fn -> hang() end)
          monitor = Process.monitor(pid)
          Process.exit(pid, :kill)

          receive do
            {:DOWN, ^monitor, _, _, _} -> {:ok, pid}
          end
        end

        # As `start_link` said.
        assert {:ok, _} = GenRegistry.start(registry, :id, [:answer, start_link])
        assert_nothing_left(registry)
      end

      assert {:ok, _} = GenRegistry.lookup_or_start(registry, :id, [plain()])
    end

    test "one that may die before or after it is registered", context do
      registry = registry(context)

      start_link = fn ->
        pid = spawn_link(fn -> exit(:early_end) end)
        if :rand.uniform(2) == 1, do: :erlang.yield()
        {:ok, pid}
      end

      # So many, for the VM to be seen between the end of one and its news of that.
      for id <- 1..30_000 do
        assert {:ok, _} = GenRegistry.start(registry, id, [:answer, start_link], :infinity)
      end

      until(fn -> GenRegistry.count(registry) == 0 end)
      assert_nothing_left(registry)
    end

    defp assert_nothing_left(registry) do
      assert GenRegistry.count(registry) == 0
      assert GenRegistry.to_list(registry) == []
      assert Supervisor.which_children(registry) == []
      assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
    end
  end

  test "a process that has an id is refused for another one, and left alone", context do
    registry = registry(context)
    worker = start!(registry, :id)

    assert GenRegistry.lookup_or_start(registry, :other, [:answer, fn -> {:ok, worker} end]) ==
             {:error, {:already_registered, worker}}

    assert GenRegistry.lookup(registry, :other) == {:error, :not_found}
    assert GenRegistry.to_list(registry) == [id: worker]
    assert LifecycleWorker.run(worker, fn -> :alive end) == :alive

    # Neither does it belong to the other id in its end.
    kill(worker)
    assert GenRegistry.count(registry) == 0
  end
end
