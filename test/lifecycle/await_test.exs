defmodule GenRegistry.AwaitTest do
  @moduledoc """
  Those who wait until an id has a process are told when it is registered, by whomever.
  """

  use ExUnit.Case, async: true

  import Lifecycle
  import StartSteps, only: [reductions: 3]

  @moduletag :capture_log

  defp await(registry, id, timeout \\ :infinity) do
    ask(fn -> GenRegistry.await(registry, id, timeout) end)
  end

  defp waiting(registry), do: map_size(:sys.get_state(registry).waiting.monitors)

  test "what is there is returned at once, by name and by pid", context do
    registry = registry(context)
    worker = start!(registry, :id)

    for server <- [registry, Process.whereis(registry), {registry, node()}] do
      assert GenRegistry.await(server, :id) == {:ok, worker}
    end

    assert GenRegistry.await(registry, :id, 0) == {:ok, worker}
  end

  test "a start wakes all who wait for its id, and nobody else", context do
    registry = registry(context)
    waits = for _ <- 1..3, do: await(registry, :id)
    by_pid = await(Process.whereis(registry), :id)
    other = await(registry, :other)
    until(fn -> waiting(registry) == 5 end)
    assert GenRegistry.count(registry) == 0
    worker = start!(registry, :id)
    for wait <- [by_pid | waits], do: assert(answer(wait) == {:ok, worker})
    assert_waits(other, registry)
    assert waiting(registry) == 1
  end

  test "a process that takes its name itself does, also a worker in its init", context do
    registry = registry(context)
    waits = for id <- [:guest, :worker], do: await(registry, id)
    until(fn -> waiting(registry) == 2 end)
    {:ok, guest} = Agent.start(fn -> nil end, name: {:via, GenRegistry, {registry, :guest}})
    held = held(:init)

    named = fn ->
      :yes = GenRegistry.register_name({registry, :worker}, self())
      held.()
    end

    start = ask(:start, registry, :worker, [named])
    init = reached(:init)
    assert Enum.map(waits, &answer/1) == [{:ok, guest}, {:ok, init}]
    go(init)
    assert answer(start) == {:ok, init}
  end

  test "a start that fails wakes nobody, a replacement does", context do
    registry = registry(context)
    wait = await(registry, :id)
    until(fn -> waiting(registry) == 1 end)
    {:error, _} = GenRegistry.start(registry, :id, [fn -> {:stop, {:shutdown, :no}} end])
    assert_waits(wait, registry)
    {:ok, pid} = GenRegistry.replace(registry, :id, [plain()])
    assert answer(wait) == {:ok, pid}
  end

  test "whoever has died or waits no more leaves nothing behind", context do
    registry = registry(context)
    [dies, waits] = for _ <- 1..2, do: await(registry, :id)
    until(fn -> waiting(registry) == 2 end)
    kill(dies.pid)
    until(fn -> waiting(registry) == 1 end)

    server = Process.whereis(registry)

    for at <- [registry, server] do
      assert {:timeout, {GenRegistry, :await, [^at, :id, 1]}} =
               catch_exit(GenRegistry.await(at, :id, 1))
    end

    until(fn -> waiting(registry) == 1 end)
    worker = start!(registry, :id)
    assert waiting(registry) == 0
    assert answer(waits) == {:ok, worker}
    refute_received {_, {:ok, _}}
  end

  test "they exit when the registry ends, also before its workers do", context do
    registry = registry(context)
    worker = start!(registry, :worker, held_at_end(:end))
    wait = await(registry, :id)
    until(fn -> waiting(registry) == 1 end)
    ends = ask(fn -> end_registry(registry) end)
    assert reached({:end, :shutdown}) == worker
    assert {:exit, {:shutdown, {GenRegistry, :await, [^registry, :id, :infinity]}}} = answer(wait)
    late = ask(fn -> GenRegistry.await(registry, :id) end)
    assert {:exit, {:shutdown, {GenRegistry, :await, _}}} = answer(late)
    assert GenRegistry.await(registry, :worker) in [{:ok, worker}]
    go(worker)
    assert answer(ends) == :ok
    assert_raise ArgumentError, ~r/unknown registry/, fn -> GenRegistry.await(registry, :id) end
  end

  test "and when it is killed", context do
    registry = registry(context)
    wait = await(registry, :id)
    until(fn -> waiting(registry) == 1 end)
    server = Process.whereis(registry)
    kill(server)
    assert {:exit, {:killed, {GenRegistry, :await, _}}} = answer(wait)
    restarted(registry, server)
    assert waiting(registry) == 0
  end

  test "many who wait cost the server nothing at a start of another id", context do
    registry = registry(context)
    server = Process.whereis(registry)
    alone = reductions(server, 50, fn n -> start!(registry, {:alone, n}) end)
    test = self()

    # As their calls do.
    waiter =
      spawn_link(fn ->
        for n <- 1..20_000 do
          send(
            server,
            {:"$gen_call", {self(), make_ref()}, {:await, if(rem(n, 2) == 0, do: n, else: :same)}}
          )
        end

        send(test, :asked)
        hang()
      end)

    receive do: (:asked -> :ok)
    assert waiting(registry) == 20_000
    beside = reductions(server, 50, fn n -> start!(registry, {:beside, n}) end)
    assert beside < 2 * alone
    Process.unlink(waiter)
    kill(waiter)
    until(fn -> waiting(registry) == 0 end)
    assert :sys.get_state(registry).waiting == GenRegistry.Waiting.new()
  end
end
