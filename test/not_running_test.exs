defmodule GenRegistry.NotRunningTest do
  @moduledoc """
  What each call returns, raises or exits with while a registry is away, ends or is killed: the table in
  the documentation of `GenRegistry`. And `GenRegistry.registries/0`.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  # All that asks the registry's process.
  defp calls(registry, args \\ [plain()]) do
    [
      lookup_or_start: fn -> GenRegistry.lookup_or_start(registry, :id, args) end,
      start: fn -> GenRegistry.start(registry, :id, args) end,
      call: fn -> GenRegistry.call(registry, :id, {:run, &self/0}, args: args) end,
      cast: fn -> GenRegistry.cast(registry, :id, :message, args: args) end,
      stop: fn -> GenRegistry.stop(registry, :id) end,
      info: fn -> GenRegistry.info(registry) end
    ]
  end

  defp register(registry, pid \\ self()),
    do: {:register_name, fn -> GenRegistry.register_name({registry, :id}, pid) end}

  test "under a name that no process has, all raise", context do
    registry = registry(context)
    end_registry(registry)

    for name <- [registry, __MODULE__.NeverRan],
        {_, call} <- [register(name) | calls(name)] do
      error = assert_raise ArgumentError, call
      assert error.message =~ "unknown registry: #{inspect(name)}"
    end
  end

  test "by pid, and by a name of a node, they exit; but call and cast take this node's for a name",
       context do
    registry = registry(context)
    pid = Process.whereis(registry)
    end_registry(registry)

    for {_, call} <- calls(pid), do: assert({:noproc, {_, _, _}} = catch_exit(call.()))

    for {function, call} <- calls({registry, node()}) do
      if function in [:call, :cast],
        do: assert_raise(ArgumentError, call),
        else: assert({:noproc, {GenServer, :call, _}} = catch_exit(call.()))
    end

    for {_, call} <- calls({registry, :no@where}),
        do: assert({{:nodedown, :no@where}, {_, _, _}} = catch_exit(call.()))
  end

  # A start of each id hangs, so that all that is asked of it waits.
  defp waiting(registry) do
    starting = ask(:start, registry, :id, [held(:init)])
    reached(:init)
    {:ok, agent} = Agent.start(fn -> nil end)
    on_exit(fn -> Process.exit(agent, :kill) end)
    calls = [register(registry, agent) | Keyword.delete(calls(registry), :info)]
    {starting, for({function, call} <- calls, do: {function, ask(call)})}
  end

  test "when it ends in order meanwhile, they return that", context do
    registry = registry(context)
    {starting, asked} = waiting(registry)
    # Each is in the registry's mailbox.
    :sys.get_state(registry)
    end_registry(registry)
    assert answer(starting) == {:error, :shutdown}

    for {function, asker} <- asked do
      case {function, answer(asker)} do
        {start, answer} when start in [:lookup_or_start, :start, :cast] ->
          assert answer == {:error, :shutdown}

        {:call, answer} ->
          assert {:exit, {{:start_failed, :shutdown}, {GenRegistry, :call, _}}} = answer

        {:stop, answer} ->
          assert answer == :ok

        {:register_name, answer} ->
          assert answer == :no
      end
    end
  end

  test "when it ends in order before it has read them, stop and info exit" do
    for call <- [&GenRegistry.stop(&1, :id), &GenRegistry.info/1] do
      ending = spawn(fn -> receive(do: ({:"$gen_call", _from, _request} -> exit(:shutdown))) end)
      assert {:shutdown, {GenServer, :call, _}} = catch_exit(call.(ending))
    end
  end

  test "when it is killed meanwhile, they exit, or wait for the next one", context do
    registry = registry(context, worker_shutdown: :brutal_kill)
    supervisor = Process.whereis(Module.concat(registry, Supervisor))
    {starting, asked} = waiting(registry)
    info = fn -> GenRegistry.info(registry) end
    :sys.suspend(registry)
    asked = [{:info, ask(info)} | asked]
    :sys.suspend(supervisor)
    kill(Process.whereis(registry))
    assert {:exit, {:killed, {GenServer, :call, _}}} = answer(starting)
    {requests, others} = Keyword.split(asked, [:call, :cast])

    for {_function, asker} <- others,
        do: assert({:exit, {:killed, {GenServer, :call, _}}} = answer(asker))

    :sys.resume(supervisor)
    # The init of one of them, in the next registry.
    assert is_pid(answer(requests[:call]))
    assert answer(requests[:cast]) == :ok
  end

  test "registries/0 has the names of those that run", context do
    [one, two] =
      for part <- [One, Two] do
        registry(%{context | test: Module.concat(context.test, part)})
      end

    assert [one, two] -- GenRegistry.registries() == []
    end_registry(one)
    refute one in GenRegistry.registries()
    kill(Process.whereis(two))
    until(fn -> two in GenRegistry.registries() end)
    {:ok, _} = begin_registry(one)
    names = GenRegistry.registries()
    assert one in names
    assert Enum.uniq(names) == names
  end

  test "registries/0 has those that are ending, and asks no process", context do
    registry = registry(context)
    start!(registry, :id, held_at_end(:ending))
    ending = Task.async(fn -> end_registry(registry) end)
    assert_receive {{:ending, :shutdown}, worker}
    assert registry in GenRegistry.registries()
    go(worker)
    Task.await(ending)
    refute registry in GenRegistry.registries()
  end
end
