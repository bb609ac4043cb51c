defmodule GenRegistry.GivenBackTest do
  @moduledoc """
  What starts used is given back: memory of their arguments, starters, and what stands beside these.
  """

  # Alone, for it is the VM that tells what memory is used.
  use ExUnit.Case

  import Lifecycle
  import StartSteps

  @moduletag :capture_log

  # Beyond so many, starters that have no workers end.
  @handful 8

  # Held at once, so that there are as many starters; all have ended when it returns.
  defp hold_all(registry, ids, arguments \\ fn -> [] end) do
    test = self()

    # The arguments are made where nothing is left of them: in processes that end.
    askers =
      for id <- ids do
        ask(fn ->
          arguments = arguments.()

          start_link = fn ->
            wait(test, {:held, id})
            _ = :erlang.phash2(arguments)
            IdleWorker.start_link()
          end

          GenRegistry.start(registry, id, [start_link], :infinity)
        end)
      end

    starters = for id <- ids, do: reached({:held, id})
    Enum.each(starters, &go/1)
    for asker <- askers, do: assert({:ok, _} = answer(asker))
    starters
  end

  defp end_all(registry, ids), do: for(id <- ids, do: :ok = GenRegistry.stop(registry, id))

  describe "what arguments held," do
    # Beside what is used for other things, they are plain to see.
    for {what, kind, total, size} <- [
          {"binaries", :binary, 128_000_000, 4_000_000},
          {"terms", :processes_used, 128_000_000, 4_000_000}
        ] do
      for others <- [0, 200_000] do
        @tag timeout: 300_000
        test "#{what}, with #{others} others in flight", context do
          registry = registry(context, worker_module: FunWorker, worker_shutdown: 0)
          count = div(unquote(total), unquote(size))

          arguments =
            case unquote(kind) do
              :binary -> fn -> :binary.copy(<<0>>, unquote(size)) end
              :processes_used -> fn -> Enum.to_list(1..div(unquote(size), 16)) end
            end

          if unquote(others) > 0, do: request_more(registry, unquote(others))
          before = :erlang.memory(unquote(kind))
          ids = for n <- 1..count, do: {:large, n}
          hold_all(registry, ids, arguments)
          end_all(registry, ids)
          eventually(fn -> :erlang.memory(unquote(kind)) - before < div(unquote(total), 4) end)
        end
      end
    end

    # They wait for one start, which goes on for ever.
    defp request_more(registry, count) do
      request_all(registry, Stream.map(1..count, fn _ -> :hanging end), [&hang/0])
      # What the requests left is not meant.
      :erlang.garbage_collect(Process.whereis(registry))
    end
  end

  test "large ids of workers that are gone are given back", context do
    registry = registry(context, worker_module: IdleWorker, worker_shutdown: 0)
    before = :erlang.memory(:processes_used)

    for n <- 1..10 do
      asker =
        ask(fn ->
          id = [n | Enum.to_list(1..500_000)]
          {:ok, _} = GenRegistry.start(registry, id, [], :infinity)
          GenRegistry.stop(registry, id)
        end)

      assert answer(asker) == :ok
    end

    assert GenRegistry.count(registry) == 0
    eventually(fn -> :erlang.memory(:processes_used) - before < 8_000_000 end)
  end

  describe "starters" do
    test "that have no workers end when they have been idle, but for a handful", context do
      registry =
        registry(context, worker_module: FunWorker, max_starting: 100, worker_shutdown: 0)

      ids = Enum.to_list(1..100)
      starters = hold_all(registry, ids)
      assert length(Enum.uniq(starters)) == 100
      assert GenRegistry.info(registry).starters >= 100
      # One of them keeps its worker.
      {kept, ended} = {hd(ids), tl(ids)}
      end_all(registry, ended)
      eventually(fn -> GenRegistry.info(registry).starters <= @handful + 1 end)
      {:ok, kept} = GenRegistry.lookup(registry, kept)
      assert Process.alive?(kept)
      assert Process.alive?(starter(kept))
      # They have been told so, which takes each a moment.
      eventually(fn -> Enum.count(starters, &Process.alive?/1) <= @handful + 1 end)
      # And those that are there serve.
      for n <- 1..10,
          do:
            assert({:ok, _} = GenRegistry.start(registry, {:next, n}, [&IdleWorker.start_link/0]))
    end

    test "beyond the bound, for workers that start others, end too", context do
      registry = registry(context, max_starting: 1, worker_shutdown: 0)
      test = self()

      nesting = fn ->
        tasks =
          for n <- 1..50 do
            inner = held(:inner, {:ok, nil}, test)
            Task.async(fn -> GenRegistry.start(registry, n, [inner], :infinity) end)
          end

        for {:ok, _} <- Task.await_many(tasks, :infinity), do: :ok
        {:ok, nil}
      end

      outer = ask(:start, registry, :outer, [nesting])
      inits = for _ <- 1..50, do: reached(:inner)
      assert GenRegistry.info(registry).starters >= 51
      Enum.each(inits, &go/1)
      assert {:ok, _} = answer(outer)
      for {id, _} <- GenRegistry.to_list(registry), do: :ok = GenRegistry.stop(registry, id)
      eventually(fn -> GenRegistry.info(registry).starters <= @handful end)
    end

    test "that end leave nothing of them behind", context do
      registry = registry(context, worker_module: FunWorker, max_starting: 50, worker_shutdown: 0)
      before = length(own_processes())
      ids = Enum.to_list(1..50)
      hold_all(registry, ids)
      end_all(registry, ids)
      # The sweeper, the event process, and a handful.
      eventually(fn -> length(own_processes()) <= before + @handful + 2 end)
      {:links, links} = Process.info(Process.whereis(registry), :links)
      assert length(links) <= @handful + 3
    end
  end

  test "one sweeper serves all starters, and ends what a killed one had begun", context do
    before = processes_of(GenRegistry.Sweeper)
    registry = registry(context, worker_shutdown: 0)
    test = self()

    init = fn ->
      Process.flag(:trap_exit, true)
      send(test, {:init, self()})
      hang()
    end

    starts = for n <- 1..20, do: ask(:start, registry, n, [init])
    inits = for _ <- 1..20, do: reached(:init)
    assert [sweeper] = processes_of(GenRegistry.Sweeper) -- before
    for pid <- inits, do: kill(starter(pid))
    for start <- starts, do: assert(answer(start) == {:error, {:starter_died, :killed}})
    Enum.each(inits, &down/1)
    assert {:ok, _} = GenRegistry.start(registry, 1, [plain()])
    assert processes_of(GenRegistry.Sweeper) -- before == [sweeper]
    end_registry(registry)
    eventually(fn -> processes_of(GenRegistry.Sweeper) -- before == [] end)
  end
end
