defmodule GenRegistry.ReadsTest do
  @moduledoc """
  Reads beyond one id: many ids at once, from a process to its id, and all of them as a stream.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  # Terms of every kind.
  defp every_kind, do: every_small_kind() ++ large()

  # Too large for a call on a normal scheduler, or of a size that only the VM knows.
  defp large do
    [
      :binary.copy("large", 100_000),
      Enum.to_list(1..20_000),
      Map.new(1..5_000, &{&1, "#{&1}"}),
      {make_ref(), :binary.copy("large", 100_000)},
      Bitwise.bsl(1, 100_000),
      <<1::3>>,
      Terms.closure(1),
      &String.length/1
    ]
  end

  defp every_small_kind do
    kinds = [
      [1, -1, 1.0, Bitwise.bsl(1, 62), Bitwise.bsl(1, 64), :a, nil, [], {}, "", %{}],
      [:not_found, :not_running, :ok, :error, {:ok, 1}, {:error, :not_found}],
      for(size <- [1, 8, 40, 48, 49, 100, 511, 512, 513, 600], do: :binary.copy("x", size)),
      for(size <- [1, 6, 7, 60, 70], do: List.to_tuple(Enum.to_list(1..size))),
      [{:user, 1}, {:user, "name"}, %{guild: 1, user: 7}, %{a: %{b: "c"}}, [1 | 2]],
      [self(), make_ref(), hd(Port.list())],
      [Terms.external_pid(), Terms.external_port(), Terms.external_reference()],
      [Terms.nest(1, :tuple, 40), Terms.nest("a", :map, 10)]
    ]

    Enum.concat(kinds)
  end

  defp idle(context), do: registry(context, worker_module: IdleWorker)

  defp start_all(name, ids) do
    for id <- ids do
      {:ok, pid} = GenRegistry.start(name, id, [], :infinity)
      {id, pid}
    end
  end

  defp gone(pids) do
    monitors = Enum.map(pids, &Process.monitor/1)
    Enum.each(pids, &Process.exit(&1, :kill))
    Enum.each(monitors, &down_of/1)
  end

  # Starts and kills workers without pause, until the test has done what it does meanwhile.
  defp beside_starts_and_deaths(name, fun) do
    churner =
      spawn_link(fn ->
        churn = fn churn, n ->
          pids = for m <- 1..200, do: elem(start_all(name, [{:churn, n + m}]) |> hd(), 1)
          gone(pids)

          receive do
            :enough -> :ok
          after
            0 -> churn.(churn, n + 100)
          end
        end

        churn.(churn, 0)
      end)

    fun.()
    monitor = Process.monitor(churner)
    send(churner, :enough)
    down_of(monitor)
  end

  describe "lookup_many/2" do
    test "answers those that are there, in the order of the ids", context do
      name = idle(context)
      entries = start_all(name, 1..1_000)
      assert GenRegistry.lookup_many(name, Enum.to_list(1..1_000)) == entries
      assert GenRegistry.lookup_many(name, Enum.to_list(1_000..1//-1)) == Enum.reverse(entries)

      # One call of the NIF's, its border, and several.
      for many <- [0, 1, 2, 127, 128, 129, 255, 256, 257, 900] do
        ids = Enum.take_random(-500..1_500, many)
        expected = for id <- ids, {:ok, pid} <- [GenRegistry.lookup(name, id)], do: {id, pid}
        assert GenRegistry.lookup_many(name, ids) == expected
      end
    end

    test "answers an id as often as it is asked for", context do
      name = idle(context)
      [{1, pid}] = start_all(name, [1])
      assert GenRegistry.lookup_many(name, [1, 2, 1, 1]) == [{1, pid}, {1, pid}, {1, pid}]
      assert GenRegistry.lookup_many(name, List.duplicate(2, 1_000)) == []
    end

    test "takes ids of every kind, each for itself and all together", context do
      name = idle(context)
      ids = every_kind()
      assert GenRegistry.lookup_many(name, ids) == []
      entries = start_all(name, ids)

      for {id, pid} <- entries do
        assert [{found, ^pid}] = GenRegistry.lookup_many(name, [Terms.copy(id)])
        assert found === id
      end

      :rand.seed(:exsss, 7)

      for _ <- 1..20 do
        shuffled = Enum.shuffle(entries ++ entries)
        ids = for {id, _} <- shuffled, do: id
        # `==` would take 1 for 1.0.
        assert GenRegistry.lookup_many(name, ids) === shuffled
        # A large id behind many small ones, and the other way round.
        missing = Enum.to_list(1_000_000..1_000_200)
        assert GenRegistry.lookup_many(name, missing ++ ids ++ missing) === shuffled
      end

      assert GenRegistry.lookup_many(name, [0.0 | for({id, _} <- entries, do: {:no, id})]) == []
    end

    test "answers the ids that it was given", context do
      name = idle(context)
      # Equal ids with another order of their keys: what comes back is the caller's own.
      start_all(name, [%{a: 1, b: 2}])
      id = Terms.copy(%{b: 2, a: 1})
      assert [{found, _}] = GenRegistry.lookup_many(name, [id])
      assert :erts_debug.same(found, id)
    end

    test "does not answer what was stopped or has died", context do
      name = registry(context)
      [_, stopped, dead, _] = pids = for id <- 1..4, do: start!(name, id)
      assert GenRegistry.lookup_many(name, [1, 2, 3, 4]) == Enum.zip(1..4, pids)
      assert GenRegistry.stop(name, 2) == :ok
      kill(dead)
      refute Process.alive?(stopped)
      assert for({id, _} <- GenRegistry.lookup_many(name, [1, 2, 3, 4]), do: id) == [1, 4]
    end

    test "finds what stays while others come and go", context do
      name = idle(context)
      entries = start_all(name, 1..500)
      ids = Enum.to_list(1..500)

      beside_starts_and_deaths(name, fn ->
        for _ <- 1..500, do: assert(GenRegistry.lookup_many(name, ids) == entries)
      end)
    end

    test "wants a list", context do
      name = idle(context)

      for bad <- [1, nil, %{}, {1, 2}, 1..3, [1 | 2], "ids", MapSet.new([1])] do
        error = assert_raise ArgumentError, fn -> GenRegistry.lookup_many(name, bad) end
        assert error.message =~ "ids must be a list"
        assert error.message =~ inspect(bad)
      end
    end
  end

  describe "lookup_id/2" do
    test "answers ids of every kind, in the worker and elsewhere", context do
      name = registry(context)

      for id <- every_kind() do
        worker = start!(name, id)
        assert {:ok, found} = GenRegistry.lookup_id(name, worker)
        assert found === id
        assert {:ok, found} = run_in(worker, fn -> GenRegistry.lookup_id(name, self()) end)
        assert found === id
      end
    end

    test "answers the id of a worker whose :DOWN has come, of every kind but the large",
         context do
      name = idle(context)
      entries = start_all(name, every_small_kind())

      for {id, pid} <- entries do
        kill(pid)
        assert GenRegistry.lookup(name, id) == {:error, :not_found}
        assert {:ok, found} = GenRegistry.lookup_id(name, pid)
        assert found === id
      end

      # Also when the id has another worker by now.
      {id, pid} = List.first(entries)
      {:ok, new} = GenRegistry.start(name, id)
      assert GenRegistry.lookup_id(name, pid) == {:ok, id}
      assert GenRegistry.lookup_id(name, new) == {:ok, id}
    end

    test "answers it to all who watch thousands of workers that end at once", context do
      name = idle(context)
      entries = start_all(name, 1..5_000)
      ids = Map.new(entries, fn {id, pid} -> {Process.monitor(pid), {pid, id}} end)
      for {_, pid} <- entries, do: Process.exit(pid, :kill)

      for _ <- entries do
        assert_receive {:DOWN, monitor, :process, pid, :killed}
        assert {^pid, id} = Map.fetch!(ids, monitor)
        assert GenRegistry.lookup_id(name, pid) == {:ok, id}
      end
    end

    test "forgets those that ended long ago, and keeps what it holds of them bounded", context do
      name = idle(context)
      [{_, first}] = start_all(name, [:first])
      kill(first)
      assert GenRegistry.lookup_id(name, first) == {:ok, :first}

      Enum.reduce_while(1..100, nil, fn n, _ ->
        gone(for {_, pid} <- start_all(name, for(m <- 1..2_000, do: {n, m})), do: pid)

        case GenRegistry.lookup_id(name, first) do
          {:ok, :first} -> {:cont, nil}
          {:error, :not_found} -> {:halt, nil}
        end
      end)

      assert GenRegistry.lookup_id(name, first) == {:error, :not_found}
    end

    test "is no news of those that others have, or none", context do
      name = registry(context)
      other = registry(%{context | test: :"#{context.test} other"})
      worker = start!(other, :id)
      assert GenRegistry.lookup_id(name, worker) == {:error, :not_found}
      assert GenRegistry.lookup_id(name, self()) == {:error, :not_found}
      assert GenRegistry.lookup_id(name, Process.whereis(name)) == {:error, :not_found}
      assert GenRegistry.lookup_id(name, Terms.external_pid()) == {:error, :not_found}

      # The processes of the registry itself.
      mine = start!(name, :id)
      starter = starter(mine)
      assert GenRegistry.lookup_id(name, starter) == {:error, :not_found}
      assert GenRegistry.lookup_id(name, sweeper(starter)) == {:error, :not_found}

      # One that died long before.
      dead = spawn(fn -> :ok end)
      down(dead)
      assert GenRegistry.lookup_id(name, dead) == {:error, :not_found}
    end

    test "is not known in the init, and is once the start is over", context do
      name = registry(context)

      init = fn ->
        {:error, :not_found} = GenRegistry.lookup_id(name, self())
        {:ok, nil}
      end

      worker = start!(name, :id, init)
      assert GenRegistry.lookup_id(name, worker) == {:ok, :id}
    end

    test "is a worker's own until its end when it is stopped", context do
      name = registry(context)
      test = self()

      for id <- every_kind() do
        init = fn ->
          Process.flag(:trap_exit, true)
          {:ok, fn _reason -> send(test, {:end, GenRegistry.lookup_id(name, self())}) end}
        end

        start!(name, id, init)
        assert GenRegistry.stop(name, id) == :ok
        assert_received {:end, {:ok, found}}
        assert found === id
      end
    end

    test "is kept for a worker that takes its time to end, whatever happens meanwhile", context do
      name = registry(context, worker_shutdown: :infinity)
      worker = start!(name, :slow, held_at_end(:slow))
      asker = ask(:stop, name, :slow)
      assert worker == reached({:slow, :shutdown})
      assert GenRegistry.lookup(name, :slow) == {:error, :not_found}

      # More deaths than are remembered.
      for n <- 1..20 do
        gone(for m <- 1..1_000, do: start!(name, {n, m}, fn -> {:ok, nil} end))
      end

      assert GenRegistry.lookup_id(name, worker) == {:ok, :slow}
      go(worker)
      assert answer(asker) == :ok
      assert GenRegistry.lookup_id(name, worker) == {:ok, :slow}
    end

    test "is found while others come and go", context do
      name = idle(context)
      entries = start_all(name, 1..100)

      beside_starts_and_deaths(name, fn ->
        for _ <- 1..300, {id, pid} <- entries do
          assert GenRegistry.lookup_id(name, pid) == {:ok, id}
        end
      end)
    end

    test "goes with the registry", context do
      name = registry(context)
      worker = start!(name, :id)
      watched = watch(worker)
      end_registry(name)
      down_of(watched)
      assert_raise ArgumentError, fn -> GenRegistry.lookup_id(name, worker) end
      begin_registry(name)
      assert GenRegistry.lookup_id(name, worker) == {:error, :not_found}
    end

    test "wants a pid", context do
      name = registry(context)

      for bad <- [1, nil, :name, "pid", make_ref(), {name, node()}, hd(Port.list())] do
        error = assert_raise ArgumentError, fn -> GenRegistry.lookup_id(name, bad) end
        assert error.message =~ "must be a pid"
        assert error.message =~ inspect(bad)
      end
    end
  end

  test "reads of a registry do not go on in the next one", context do
    name = Module.concat(context.test, Ending)
    child = {GenRegistry, worker_module: IdleWorker, name: name}

    begin = fn ->
      start_supervised!(child)
      for id <- 1..5_000, do: {:ok, _} = GenRegistry.start(name, id)
      Process.whereis(name)
    end

    for read <- [
          fn between ->
            name |> GenRegistry.stream() |> Enum.each(fn _entry -> between.() end)
          end,
          fn between -> GenRegistry.reduce(name, nil, fn _entry, _acc -> between.() end) end
        ] do
      first = begin.()

      restart = fn ->
        if Process.whereis(name) == first do
          stop_supervised!(name)
          begin.()
        end
      end

      assert_raise ArgumentError, ~r/unknown registry/, fn -> read.(restart) end
      stop_supervised!(name)
    end
  end

  # A pair of a map takes about as long to make as the least that is counted of a time slice.
  test "what is made of an id counts as work of the caller", context do
    name = idle(context)

    for {parts, id} <- [
          {600, Map.new(1..600, &{{:key, &1}, {&1, &1}})},
          {300, for(n <- 1..300, do: %{n => n})},
          {500, for(n <- 1..500, do: {n, n})}
        ] do
      {:ok, pid} = GenRegistry.start(name, id)

      for read <- [
            fn -> {:ok, ^id} = GenRegistry.lookup_id(name, pid) end,
            fn -> {^id, ^pid} = GenRegistry.sample(name) end,
            fn -> [{^id, ^pid}] = GenRegistry.to_list(name) end
          ] do
        {:reductions, before} = Process.info(self(), :reductions)
        for _ <- 1..100, do: read.()
        {:reductions, after_reads} = Process.info(self(), :reductions)
        assert after_reads - before > 100 * parts * 0.5
      end

      :ok = GenRegistry.stop(name, id)
    end
  end

  describe "stream/1" do
    test "has what reduce has, of every kind", context do
      name = idle(context)
      assert Enum.to_list(GenRegistry.stream(name)) == []
      entries = start_all(name, every_kind())
      streamed = Enum.to_list(GenRegistry.stream(name))
      assert length(streamed) == length(entries)
      by_pid = Map.new(streamed, fn {id, pid} -> {pid, id} end)
      for {id, pid} <- entries, do: assert(Map.fetch!(by_pid, pid) === id)
    end

    test "works with Enum and Stream", context do
      name = idle(context)
      entries = start_all(name, 1..5_000)
      stream = GenRegistry.stream(name)
      assert Enum.sort(stream) == entries
      assert Enum.count(stream) == 5_000
      assert Enum.member?(stream, List.first(entries))
      refute Enum.member?(stream, {1, self()})
      assert Enum.empty?(stream) == false
      assert Enum.into(stream, %{}) == Map.new(entries)
      assert Enum.sort(for {id, _} <- stream, id > 4_990, do: id) == Enum.to_list(4_991..5_000)

      assert stream
             |> Stream.map(&elem(&1, 0))
             |> Stream.chunk_every(7)
             |> Enum.concat()
             |> Enum.sort() == Enum.to_list(1..5_000)

      assert stream |> Stream.take(10) |> Enum.uniq() |> length() == 10
      assert Enum.at(stream, 4_999) in entries

      # Suspended after each entry.
      zipped = stream |> Stream.zip(Stream.iterate(0, &(&1 + 1))) |> Enum.to_list()
      assert zipped |> Enum.map(&elem(&1, 0)) |> Enum.sort() == entries
      assert Enum.map(zipped, &elem(&1, 1)) == Enum.to_list(0..4_999)
      both = stream |> Stream.zip(stream) |> Enum.to_list()
      assert length(both) == 5_000
      assert Enum.all?(both, fn {entry, same} -> entry == same end)

      doubled = Task.async_stream(stream, fn {id, _} -> 2 * id end, ordered: false)
      assert Enum.sort(for {:ok, id} <- doubled, do: id) == Enum.map(1..5_000, &(2 * &1))
    end

    test "asks for no more than is taken", context do
      name = idle(context)
      start_all(name, 1..50_000)
      {:reductions, before} = Process.info(self(), :reductions)
      assert [{_, _}] = Enum.take(GenRegistry.stream(name), 1)
      {:reductions, taken} = Process.info(self(), :reductions)
      assert 50_000 == Enum.count(GenRegistry.stream(name))
      {:reductions, counted} = Process.info(self(), :reductions)
      assert 10 * (taken - before) < counted - taken
    end

    test "holds nothing when it is halted, or left suspended", context do
      name = idle(context)
      start_all(name, 1..5_000)

      {:suspended, {_, _}, go_on} =
        Enumerable.reduce(GenRegistry.stream(name), {:cont, nil}, fn entry, _ ->
          {:suspend, entry}
        end)

      assert catch_throw(Enum.each(GenRegistry.stream(name), &throw/1)) |> is_tuple()
      gone(for {_, pid} <- GenRegistry.to_list(name), do: pid)
      assert GenRegistry.count(name) == 0
      # A new stream has nothing; the suspended one may have what it had already met, and ends.
      assert Enum.to_list(GenRegistry.stream(name)) == []
      assert {ended, _} = go_on.({:cont, nil}) |> run_on()
      assert ended in [:done, :halted]
      assert {:halted, _} = go_on.({:halt, nil})
    end

    defp run_on({:suspended, _, go_on}), do: run_on(go_on.({:cont, nil}))
    defp run_on(ended), do: ended

    test "begins anew each time", context do
      name = idle(context)
      stream = GenRegistry.stream(name)
      assert Enum.count(stream) == 0
      start_all(name, [1])
      assert Enum.count(stream) == 1
      start_all(name, [2])
      assert Enum.count(stream) == 2
    end

    test "meets what stays exactly once while others come and go", context do
      name = idle(context)
      entries = start_all(name, 1..3_000)

      beside_starts_and_deaths(name, fn ->
        for _ <- 1..30 do
          met = Enum.to_list(GenRegistry.stream(name))
          assert met |> Enum.filter(&is_integer(elem(&1, 0))) |> Enum.sort() == entries
          assert met |> Enum.uniq_by(&elem(&1, 0)) |> length() == length(met)
        end
      end)
    end

    test "raises when it is gone through and the registry is not running", context do
      name = registry(context)
      stream = GenRegistry.stream(name)
      unknown = GenRegistry.stream("no name")
      start!(name, 1)
      assert Enum.count(stream) == 1
      end_registry(name)
      error = assert_raise ArgumentError, fn -> Enum.to_list(stream) end
      assert error.message =~ "unknown registry: #{inspect(name)}"
      assert_raise ArgumentError, fn -> Enum.take(unknown, 1) end
      assert Enum.take(unknown, 0) == []
    end

    test "raises when the registry ends on the way, as reduce does", context do
      name = idle(context)
      start_all(name, 1..5_000)
      ended = fn _ -> Process.whereis(name) && end_registry(name) end

      assert_raise ArgumentError, fn -> Enum.each(GenRegistry.stream(name), ended) end
      begin_registry(name)
      start_all(name, 1..5_000)

      assert_raise ArgumentError, fn ->
        GenRegistry.reduce(name, nil, fn e, _ -> ended.(e) end)
      end
    end
  end

  test "all of them say which registry is not running" do
    for read <- [
          &GenRegistry.lookup_many(&1, []),
          &GenRegistry.lookup_many(&1, [1]),
          &GenRegistry.lookup_id(&1, self()),
          &GenRegistry.lookup_id(&1, Terms.external_pid()),
          &Enum.to_list(GenRegistry.stream(&1))
        ],
        name <- [Never.Ran, "name", nil, self()] do
      error = assert_raise ArgumentError, fn -> read.(name) end
      assert error.message =~ "unknown registry: #{inspect(name)}"
    end
  end

  defp run_in(worker, fun), do: LifecycleWorker.run(worker, fun)
end
