defmodule GenRegistry.LateRequestsTest do
  @moduledoc """
  Nothing is begun for a caller who does not wait any more, and whoever takes the calls of a registry in
  its stead sees what it always saw.
  """

  use ExUnit.Case

  import Lifecycle
  import StartSteps

  @moduletag :capture_log

  # Of which it is told when it begins.
  defp telling(id) do
    test = self()

    fn ->
      send(test, {:begun, id})
      {:ok, nil}
    end
  end

  test "a request that waited past its caller's timeout is not begun", context do
    registry = registry(context)
    :sys.suspend(registry)

    for {kind, timeout} <- [start: 0, lookup_or_start: 0, start: 1, lookup_or_start: 10] do
      id = {kind, timeout}
      call = fn -> apply(GenRegistry, kind, [registry, id, [telling(id)], timeout]) end
      assert {:exit, {:timeout, _}} = attempt(call)
    end

    # One whose caller waits still.
    waiting = ask(:start, registry, :waiting, [telling(:waiting)], 60_000)
    endless = ask(:start, registry, :endless, [telling(:endless)])
    :sys.resume(registry)
    for asker <- [waiting, endless], do: assert({:ok, _} = answer(asker))
    for id <- [:waiting, :endless], do: assert_receive({:begun, ^id})
    refute_received {:begun, _}
    assert GenRegistry.count(registry) == 2
    assert %{starting: 0, queued: 0} = GenRegistry.info(registry)
  end

  test "nor is one of a caller on another node that was killed while it waited for its turn" do
    {there, here} = OtherVM.start_two()

    OtherVM.eval(
      there,
      quote do
        options = [name: R, max_starting: 1]
        {:ok, registry} = GenRegistry.start_link(FunWorker, options)
        Process.unlink(registry)

        held = fn ->
          Process.register(self(), :held)
          receive(do: (:go -> IdleWorker.start_link()))
        end

        spawn(fn -> GenRegistry.start(R, :held, [held], :infinity) end)
      end
    )

    OtherVM.eval(
      here,
      quote do
        true = Node.connect(:"there@127.0.0.1")

        caller =
          spawn(fn ->
            server = {R, :"there@127.0.0.1"}
            GenRegistry.start(server, :late, [&IdleWorker.start_link/0], :infinity)
          end)

        Process.register(caller, :caller)
      end
    )

    info = fn -> OtherVM.eval(there, quote(do: GenRegistry.info(R))) end
    eventually(fn -> info.().queued == 1 end)
    OtherVM.eval(here, quote(do: Process.exit(Process.whereis(:caller), :kill)))
    eventually(fn -> info.().queued == 0 end)
    OtherVM.eval(there, quote(do: send(:held, :go)))
    eventually(fn -> match?(%{starting: 0, queued: 0, count: 1}, info.()) end)
  end

  describe "{kind, id, args} is what is seen by" do
    # A process that takes one call, and returns it.
    defp take_call(name) do
      test = self()

      spawn_link(fn ->
        if name, do: Process.register(self(), name)
        send(test, {:stands_in, self()})

        receive do
          {:"$gen_call", from, message} ->
            send(test, {:seen, message})
            GenServer.reply(from, {:ok, self()})
        end
      end)

      assert_receive {:stands_in, pid}
      pid
    end

    defp assert_seen(server, pid) do
      assert GenRegistry.start(server, :id, [:arg], 1_000) == {:ok, pid}
      assert_receive {:seen, {:start, :id, [:arg]}}
    end

    test "a stand-in under the name, though the table's owner lives", context do
      registry = registry(context)
      server = Process.whereis(registry)
      Process.unregister(registry)
      stand_in = take_call(registry)
      assert_seen(registry, stand_in)
      down(stand_in)
      Process.register(server, registry)
      assert {:ok, _} = GenRegistry.start(registry, :id, [plain()])
    end

    test "a pid", _context do
      pid = take_call(nil)
      assert_seen(pid, pid)
    end

    test "{name, node}", %{test: test} do
      pid = take_call(test)
      assert_seen({test, node()}, pid)
    end

    # And a registry takes it from them.
    test "a registry that is called by its pid, or its node", context do
      registry = registry(context)
      server = Process.whereis(registry)
      :erlang.trace(server, true, [:receive])

      for {target, n} <- [{server, 1}, {{registry, node()}, 2}] do
        assert {:ok, _} = GenRegistry.start(target, n, [plain()], 60_000)
        assert_receive {:trace, ^server, :receive, {:"$gen_call", _, request}}
        assert {:start, ^n, [_]} = request
      end
    end
  end
end
