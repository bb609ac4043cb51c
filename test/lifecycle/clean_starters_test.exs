defmodule GenRegistry.CleanStartersTest do
  @moduledoc """
  Whatever a `start_link` did to the process it ran in, the next one finds that as new. A starter that
  cannot be made so takes no more starts, and no starter has many workers.
  """

  use ExUnit.Case, async: true

  import StartSteps
  import Lifecycle

  @moduletag :capture_log

  # So many workers a starter may have.
  @most 64

  # What a `start_link` returns or raises.
  @endings [:worker, :error, :raise, :throw, :exit]

  defp ending(:worker), do: IdleWorker.start_link()
  defp ending(:error), do: {:error, :refused}
  defp ending(:raise), do: raise("refused")
  defp ending(:throw), do: throw(:refused)
  defp ending(:exit), do: exit(:refused)

  defp fun_registry(context), do: registry(context, worker_module: FunWorker, worker_shutdown: 0)

  # The starter of a start that did something, and ended in a way.
  defp dirty(registry, id, does, ending) do
    test = self()

    answer =
      GenRegistry.start(registry, id, [
        fn ->
          send(test, {:dirty, self()})
          does.()
          ending(ending)
        end
      ])

    assert elem(answer, 0) == if(ending == :worker, do: :ok, else: :error)
    assert_receive {:dirty, starter}
    starter
  end

  # What the next start sees, and in which starter that is.
  defp look(registry, id) do
    test = self()

    start_link = fn ->
      {:links, links} = Process.info(self(), :links)
      send(test, {:seen, snapshot(), self(), links})
      # As much as needs more heap than those limits leave that others set.
      200_000 = length(Enum.to_list(1..200_000))
      IdleWorker.start_link()
    end

    assert {:ok, _} = GenRegistry.start(registry, id, [start_link])
    assert_receive {:seen, seen, starter, links}
    # To the registry, and to workers: others are gone.
    links = links -- [Process.whereis(registry) | pids(registry)]
    refute Enum.any?(links, &Process.alive?/1)
    {seen, starter}
  end

  defp pids(registry), do: for({_id, pid} <- GenRegistry.to_list(registry), do: pid)

  @changes [
    dictionary: quote(do: Process.put({Repo, :dynamic_repo}, :tenant)),
    erased_dictionary: quote(do: for({key, _} <- Process.get(), do: Process.delete(key))),
    ancestors: quote(do: Process.put(:"$ancestors", [:nobody])),
    callers: quote(do: Process.put(:"$callers", [self()])),
    logger_metadata: quote(do: Logger.metadata(user: "somebody")),
    logger_level: quote(do: Logger.put_process_level(self(), :none)),
    random_seed: quote(do: :rand.seed(:exsss, 1)),
    group_leader: quote(do: Process.group_leader(self(), Process.whereis(:init))),
    priority: quote(do: Process.flag(:priority, :low)),
    heap_limit: quote(do: Process.flag(:max_heap_size, %{size: 100_000, kill: true})),
    least_heap: quote(do: Process.flag(:min_heap_size, 50_000)),
    least_binary_heap: quote(do: Process.flag(:min_bin_vheap_size, 500_000)),
    sensitive: quote(do: Process.flag(:sensitive, true)),
    exits_not_trapped: quote(do: Process.flag(:trap_exit, false)),
    error_handler: quote(do: Process.flag(:error_handler, :nobody_handles)),
    messages: quote(do: for(n <- 1..100, do: send(self(), {:unread, n}))),
    nothing: nil
  ]

  for {name, change} <- @changes do
    test "as new: #{name}", context do
      registry = fun_registry(context)
      # What a new one is like.
      {new, _} = look(registry, :look)
      siblings = GenRegistry.to_list(registry)

      for ending <- @endings do
        # The parameter has the compiler take it for no constant.
        dirty(registry, {:dirty, ending}, fn -> unquote(change) end, ending)
        {seen, _starter} = look(registry, {:look, ending})
        assert seen == new
      end

      for {_, pid} <- siblings, do: assert(Process.alive?(pid))
    end
  end

  describe "as new, or not used again, but with its workers, is a starter that" do
    # A process that is no worker, named as a server that many use.
    defp stranger do
      stranger = spawn_link(&hang/0)
      Process.register(stranger, :"stranger #{inspect(stranger)}")
      stranger
    end

    defp assert_clean_or_unused(context, does) do
      registry = fun_registry(context)
      {new, _} = look(registry, :sibling)
      {:ok, sibling} = GenRegistry.lookup(registry, :sibling)

      for ending <- @endings do
        dirty(registry, {:dirty, ending}, does, ending)
        {seen, _starter} = look(registry, {:look, ending})
        assert seen == new
      end

      assert Process.alive?(sibling)
      registry
    end

    test "has linked itself to a stranger, which is not harmed", context do
      stranger = stranger()
      registry = assert_clean_or_unused(context, fn -> Process.link(stranger) end)
      assert Process.alive?(stranger)
      assert GenRegistry.count(registry) == 2 + length(@endings)
    end

    test "monitors a stranger", context do
      stranger = stranger()
      assert_clean_or_unused(context, fn -> Process.monitor(stranger) end)
      assert Process.alive?(stranger)
    end

    test "has a name", context do
      test = self()
      name = :"starter of #{inspect(test)}"

      assert_clean_or_unused(context, fn ->
        if Process.whereis(name), do: Process.unregister(name)
        Process.register(self(), name)
      end)
    end

    test "has left a linked process beside its worker", context do
      test = self()

      does = fn -> send(test, {:left, spawn_link(&hang/0)}) end
      registry = fun_registry(context)
      dirty(registry, :dirty, does, :worker)
      assert_receive {:left, left}
      look(registry, :look)
      # It is its worker's companion, as the start went well.
      assert Process.alive?(left)
    end
  end

  describe "a start that fails by" do
    # The processes that a start spawns, each with what it does.
    defp spawned do
      trapping = fn ->
        Process.flag(:trap_exit, true)
        hang()
      end

      {:ok, agent} = Agent.start_link(fn -> nil end)
      {:ok, supervisor} = Supervisor.start_link([{Agent, fn -> nil end}], strategy: :one_for_one)
      [{_, child, _, _}] = Supervisor.which_children(supervisor)
      [spawn_link(&hang/0), spawn_link(trapping), agent, supervisor, child]
    end

    for ending <- [:raise, :throw, :exit] do
      test "#{ending} leaves none of the processes that it has spawned", context do
        registry = fun_registry(context)
        {:ok, sibling} = GenRegistry.start(registry, :sibling, [&IdleWorker.start_link/0])
        test = self()
        does = fn -> send(test, {:spawned, spawned()}) end

        for n <- 1..3 do
          dirty(registry, {:dirty, n}, does, unquote(ending))
          assert_receive {:spawned, spawned}
          Enum.each(spawned, &down/1)
        end

        assert Process.alive?(sibling)
        assert GenRegistry.count(registry) == 1
      end

      test "#{ending} harms no server that it had linked itself to", context do
        registry = fun_registry(context)
        {:ok, other} = GenRegistry.start(registry, :other, [&IdleWorker.start_link/0])
        # One that was there, one that another process spawned meanwhile, and a worker.
        server = start_supervised!({Agent, fn -> nil end})
        test = self()

        does = fn ->
          send(test, {:spawn, self()})
          foreign = receive(do: ({:foreign, pid} -> pid))
          for pid <- [server, foreign, other], do: Process.link(pid)
        end

        spawner =
          spawn_link(fn ->
            receive do
              {:spawn_for, starter} ->
                foreign = spawn(&hang/0)
                send(starter, {:foreign, foreign})
                send(test, {:foreign, foreign})
                hang()
            end
          end)

        start =
          Task.async(fn ->
            GenRegistry.start(registry, :dirty, [
              fn ->
                does.()
                ending(unquote(ending))
              end
            ])
          end)

        assert_receive {:spawn, starter}
        send(spawner, {:spawn_for, starter})
        assert_receive {:foreign, foreign}
        assert {:error, _} = Task.await(start)
        # A start of what the registry does afterwards.
        look(registry, :look)
        assert Enum.all?([server, foreign, other], &Process.alive?/1)
      end
    end
  end

  describe "a starter" do
    # One after the other, so that no more starters are needed than the bound makes.
    defp by_starter(registry, count) do
      for n <- 1..count, {:ok, _} = GenRegistry.start(registry, n, [&IdleWorker.start_link/0]) do
      end

      GenRegistry.to_list(registry) |> Enum.map(&elem(&1, 1)) |> Enum.group_by(&starter/1)
    end

    test "has at most 64 workers", context do
      registry = fun_registry(context)
      by_starter = by_starter(registry, 2_000)
      counts = for {_, workers} <- by_starter, do: length(workers)
      assert Enum.sum(counts) == 2_000
      assert Enum.max(counts) <= @most
      # And is made full before another one is.
      assert map_size(by_starter) <= 4 * div(2_000, @most)
      assert GenRegistry.info(registry).starters >= map_size(by_starter)

      for starter <- Map.keys(by_starter) do
        {:links, links} = Process.info(starter, :links)
        assert length(links) <= @most + 10
      end

      # Whose workers have ended takes others.
      for {_, workers} <- by_starter, do: Enum.each(workers, &kill/1)
      assert GenRegistry.count(registry) == 0
      assert map_size(by_starter(registry, 500)) <= 4 * div(2_000, @most)
    end

    test "that its start_link kills takes at most so many with it", context do
      registry = fun_registry(context)
      by_starter(registry, 1_000)
      test = self()

      kill_starter = fn ->
        send(test, {:starter, self()})
        Process.exit(self(), :kill)
        hang()
      end

      assert GenRegistry.start(registry, :bad, [kill_starter]) ==
               {:error, {:starter_died, :killed}}

      assert_receive {:starter, starter}
      down(starter)
      # Links tell at once. What is told of the end of its start, all is over.
      until(fn -> GenRegistry.info(registry).stopping == 0 end)
      assert GenRegistry.count(registry) in (1_000 - @most)..1_000
    end
  end

  test "no start that fails has all processes of the VM looked at", context do
    registry = fun_registry(context)
    all = {:erlang, :processes, 0}
    :erlang.trace_pattern(all, true, [])
    on_exit(fn -> :erlang.trace_pattern(all, false, []) end)
    server = Process.whereis(registry)
    own = [server | elem(Process.info(server, :links), 1)]
    # And what these spawn.
    for pid <- own, pid != self(), do: :erlang.trace(pid, true, [:call, :set_on_spawn])

    for ending <- @endings -- [:worker], n <- 1..20 do
      dirty(registry, {ending, n}, fn -> spawn_link(&hang/0) end, ending)
    end

    look(registry, :look)
    delivered = :erlang.trace_delivered(:all)
    assert_receive {:trace_delivered, :all, ^delivered}
    refute_received {:trace, _, :call, {:erlang, :processes, []}}
  end
end
