defmodule GenRegistryTest do
  @moduledoc """
  The API: what every function answers, on a registry that runs and on one that does not.

  The doctests run on a registry named `ExampleWorker`, so no other test file may start one.
  """

  use ExUnit.Case, async: true

  import Lifecycle, only: [ended: 2, kill: 1, watch: 1]

  @moduletag :capture_log

  describe "documentation" do
    setup do
      start_supervised!({GenRegistry, worker_module: ExampleWorker})
      :ok
    end

    doctest GenRegistry
    doctest GenRegistry.Spec
  end

  # A registry of this test's own.
  defp registry(%{module: module, test: test}, opts \\ []) do
    name = Module.concat(module, test)
    opts = Keyword.merge([worker_module: ExampleWorker, name: name], opts)
    {name, start_supervised!({GenRegistry, opts})}
  end

  describe "child_spec/1" do
    test "needs a worker module" do
      error = assert_raise KeyError, fn -> GenRegistry.child_spec(name: Some.Name) end
      assert error.key == :worker_module
    end

    test "takes the worker module for a name" do
      assert GenRegistry.child_spec(worker_module: Some.Worker) == %{
               id: Some.Worker,
               start: {GenRegistry, :start_link, [Some.Worker, [name: Some.Worker]]},
               type: :supervisor,
               shutdown: :infinity
             }
    end

    test "has the name for an id, and hands all other options on" do
      opts = [worker_module: Some.Worker, name: Some.Name, max_starting: 3, timeout: 10]

      assert %{id: Some.Name, start: {GenRegistry, :start_link, [Some.Worker, handed]}} =
               GenRegistry.child_spec(opts)

      assert Enum.sort(handed) == [max_starting: 3, name: Some.Name, timeout: 10]
    end

    test "lets a supervisor have two registries for one worker module", %{test: test} do
      [read, write] = for part <- [Read, Write], do: Module.concat([__MODULE__, test, part])

      children =
        for name <- [read, write], do: {GenRegistry, worker_module: ExampleWorker, name: name}

      start_supervised!(%{
        id: :supervisor,
        start: {Supervisor, :start_link, [children, [strategy: :one_for_one]]}
      })

      {:ok, reader} = GenRegistry.start(read, :id)
      {:ok, writer} = GenRegistry.start(write, :id)
      assert reader != writer
      assert GenRegistry.lookup(read, :id) == {:ok, reader}
      assert GenRegistry.lookup(write, :id) == {:ok, writer}
    end
  end

  describe "Spec.child_spec/2" do
    test "is a tuple, and old supervisors take it", %{test: test} do
      name = Module.concat(__MODULE__, test)

      spec = GenRegistry.Spec.child_spec(ExampleWorker, name: name)
      assert {^name, start, :permanent, :infinity, :supervisor, [GenRegistry]} = spec
      assert {GenRegistry, :start_link, [ExampleWorker, handed]} = start

      assert handed == [name: name]
      assert :ok = :supervisor.check_childspecs([spec])

      {:ok, supervisor} = Supervisor.start_link([], strategy: :one_for_one)
      assert {:ok, pid} = :supervisor.start_child(supervisor, spec)
      assert Process.whereis(name) == pid
      assert {:ok, _} = GenRegistry.lookup_or_start(name, :id)
      Supervisor.stop(supervisor)
    end

    test "takes the worker module for a name, and hands all options on" do
      {Some.Worker, {GenRegistry, :start_link, [Some.Worker, handed]}, _, _, _, _} =
        GenRegistry.Spec.child_spec(Some.Worker, max_starting: 3, timeout: 10)

      assert Enum.sort(handed) == [max_starting: 3, name: Some.Worker, timeout: 10]
    end
  end

  describe "start_link/2" do
    test "names the registry after its worker module" do
      defmodule NamedAfter do
        defdelegate start_link, to: ExampleWorker
      end

      assert {:ok, pid} = GenRegistry.start_link(NamedAfter)
      assert Process.whereis(NamedAfter) == pid
      assert {:ok, worker} = GenRegistry.lookup_or_start(NamedAfter, :id)
      assert GenRegistry.lookup(NamedAfter, :id) == {:ok, worker}
      GenServer.stop(pid)
    end

    test "links the registry to its caller", context do
      name = Module.concat(__MODULE__, context.test)
      assert {:ok, pid} = GenRegistry.start_link(ExampleWorker, name: name)
      {:links, links} = Process.info(self(), :links)
      assert pid in links
      GenServer.stop(pid)
    end

    test "answers the registry that has the name already", context do
      {name, pid} = registry(context)
      {:ok, worker} = GenRegistry.start(name, :id)

      assert GenRegistry.start_link(ExampleWorker, name: name) ==
               {:error, {:already_started, pid}}

      assert GenRegistry.start_link(IdleWorker, name: name) == {:error, {:already_started, pid}}

      # And that one is none the worse for it.
      assert GenRegistry.to_list(name) == [{:id, worker}]
      assert GenRegistry.stop(name, :id) == :ok
    end

    test "answers whatever process has the name already", %{test: test} do
      name = Module.concat(__MODULE__, test)
      pid = start_supervised!({Agent, fn -> nil end})
      Process.register(pid, name)
      assert {:error, {:already_started, ^pid}} = GenRegistry.start_link(IdleWorker, name: name)
      assert_raise ArgumentError, fn -> GenRegistry.count(name) end
    end

    test "hands options that are not its own to GenServer", context do
      {_name, pid} = registry(context, spawn_opt: [priority: :high], debug: [:statistics])
      assert Process.info(pid, :priority) == {:priority, :high}
      assert {:ok, [_ | _]} = :sys.statistics(pid, :get)
    end

    test "wants an atom for a name" do
      for name <- ["name", {:global, :name}, {:via, Registry, {R, 1}}, 1, self()] do
        error =
          assert_raise ArgumentError, fn -> GenRegistry.start_link(ExampleWorker, name: name) end

        assert error.message =~ "name"
        assert error.message =~ "must be an atom"
        assert error.message =~ inspect(name)
      end
    end

    test "takes no name that a process cannot have" do
      for name <- [nil, true, false, :undefined] do
        assert_raise ArgumentError, fn -> GenRegistry.start_link(ExampleWorker, name: name) end
      end
    end

    test "wants a module of workers" do
      for module <- ["ExampleWorker", {ExampleWorker, :start_link}, 1] do
        error =
          assert_raise ArgumentError, fn -> GenRegistry.start_link(module, name: Some.Name) end

        assert error.message =~ inspect(module)
      end

      assert Process.whereis(Some.Name) == nil
    end

    test "wants a positive number of starts at once" do
      for bad <- [0, -1, 1.0, :infinity, nil, "64"] do
        error =
          assert_raise ArgumentError, fn ->
            GenRegistry.start_link(ExampleWorker, name: Some.Name, max_starting: bad)
          end

        assert error.message =~ ":max_starting"
        assert error.message =~ inspect(bad)
      end
    end

    test "wants a time, :infinity or :brutal_kill for a worker's shutdown" do
      for bad <- [-1, 1.0, :never, nil, "5000"] do
        error =
          assert_raise ArgumentError, fn ->
            GenRegistry.start_link(ExampleWorker, name: Some.Name, worker_shutdown: bad)
          end

        assert error.message =~ ":worker_shutdown"
        assert error.message =~ inspect(bad)
      end
    end

    test "takes every value that its options may have", %{test: test} do
      for {option, value} <- [
            max_starting: 1,
            max_starting: 1_000,
            worker_shutdown: 0,
            worker_shutdown: 100,
            worker_shutdown: :infinity,
            worker_shutdown: :brutal_kill
          ] do
        name = Module.concat(__MODULE__, test)
        {:ok, pid} = GenRegistry.start_link(ExampleWorker, [{:name, name}, {option, value}])
        assert {:ok, _} = GenRegistry.lookup_or_start(name, :id)
        assert GenRegistry.stop(name, :id) == :ok
        GenServer.stop(pid)
      end
    end
  end

  describe "lookup/2" do
    test "answers the id's process, and no other's", context do
      {name, _} = registry(context)
      assert GenRegistry.lookup(name, :a) == {:error, :not_found}
      {:ok, a} = GenRegistry.start(name, :a)
      {:ok, b} = GenRegistry.start(name, :b)
      assert GenRegistry.lookup(name, :a) == {:ok, a}
      assert GenRegistry.lookup(name, :b) == {:ok, b}
      assert GenRegistry.lookup(name, :c) == {:error, :not_found}
    end

    test "does not find a process whose end has been seen", context do
      {name, _} = registry(context)
      {:ok, pid} = GenRegistry.start(name, :a)
      kill(pid)
      assert GenRegistry.lookup(name, :a) == {:error, :not_found}
    end
  end

  describe "lookup_or_start/4" do
    test "starts a process once and answers it from then on", context do
      {name, _} = registry(context)
      assert {:ok, pid} = GenRegistry.lookup_or_start(name, :id)
      assert Process.alive?(pid)
      assert GenRegistry.lookup_or_start(name, :id) == {:ok, pid}
      assert GenRegistry.lookup_or_start(name, :id, [:unused]) == {:ok, pid}
      assert GenRegistry.count(name) == 1
    end

    test "starts without arguments unless there are some", context do
      {name, _} = registry(context)
      {:ok, without} = GenRegistry.lookup_or_start(name, :without)
      {:ok, empty} = GenRegistry.lookup_or_start(name, :empty, [])
      {:ok, with_one} = GenRegistry.lookup_or_start(name, :with_one, [%{"an" => :argument}])
      assert :sys.get_state(without) == nil
      assert :sys.get_state(empty) == nil
      assert :sys.get_state(with_one) == %{"an" => :argument}
    end

    test "takes as many arguments as start_link does", context do
      defmodule ManyArguments do
        def start_link(a, b, c, d), do: Agent.start_link(fn -> [a, b, c, d] end)
      end

      {name, _} = registry(context, worker_module: ManyArguments)
      {:ok, pid} = GenRegistry.lookup_or_start(name, :id, [1, [], nil, {2}])
      assert Agent.get(pid, & &1) == [1, [], nil, {2}]
    end

    test "starts another one when the first has ended", context do
      {name, _} = registry(context)
      {:ok, first} = GenRegistry.lookup_or_start(name, :id)
      kill(first)
      assert {:ok, second} = GenRegistry.lookup_or_start(name, :id)
      assert second != first
      assert Process.alive?(second)
    end

    test "does not link the process to its caller", context do
      {name, _} = registry(context)
      {:ok, pid} = GenRegistry.lookup_or_start(name, :id)
      {:links, links} = Process.info(self(), :links)
      refute pid in links
    end

    test "leaves nothing in its caller's mailbox", context do
      {name, _} = registry(context)
      {:ok, _} = GenRegistry.lookup_or_start(name, :a)
      {:ok, _} = GenRegistry.start(name, :b)
      {:error, _} = GenRegistry.lookup_or_start(name, :c, [:too, :many])
      :ok = GenRegistry.stop(name, :a)
      assert Process.info(self(), :messages) == {:messages, []}
    end
  end

  describe "start/4" do
    test "starts a process, and says when there is one already", context do
      {name, _} = registry(context)
      assert {:ok, pid} = GenRegistry.start(name, :id, [:mine])
      assert :sys.get_state(pid) == :mine
      assert GenRegistry.start(name, :id) == {:error, {:already_started, pid}}
      assert GenRegistry.start(name, :id, [:yours]) == {:error, {:already_started, pid}}
      assert :sys.get_state(pid) == :mine
      assert GenRegistry.lookup_or_start(name, :id) == {:ok, pid}
    end

    test "starts another one when the first has ended", context do
      {name, _} = registry(context)
      {:ok, first} = GenRegistry.start(name, :id)
      kill(first)
      assert {:ok, second} = GenRegistry.start(name, :id)
      assert Process.alive?(second)
    end

    test "is told to one of all who call it at once", context do
      {name, _} = registry(context)

      answers =
        1..50
        |> Enum.map(fn _ -> Task.async(fn -> GenRegistry.start(name, :id) end) end)
        |> Task.await_many()

      assert [{:ok, pid}] = Enum.filter(answers, &match?({:ok, _}, &1))
      others = Enum.reject(answers, &match?({:ok, _}, &1))
      assert Enum.uniq(others) == [{:error, {:already_started, pid}}]
    end
  end

  describe "stop/3" do
    test "answers when the process is gone", context do
      {name, _} = registry(context)
      {:ok, pid} = GenRegistry.start(name, :id)
      {:ok, other} = GenRegistry.start(name, :other)
      assert GenRegistry.stop(name, :id) == :ok
      refute Process.alive?(pid)
      assert GenRegistry.lookup(name, :id) == {:error, :not_found}
      assert GenRegistry.to_list(name) == [{:other, other}]
      assert Process.alive?(other)
    end

    test "sends :shutdown", context do
      {name, _} = registry(context)
      {:ok, pid} = GenRegistry.start(name, :id)
      monitor = watch(pid)
      assert GenRegistry.stop(name, :id) == :ok
      assert ended(pid, monitor) == :shutdown
    end

    test "finds nothing to stop where nothing runs", context do
      {name, _} = registry(context)
      assert GenRegistry.stop(name, :never_started) == {:error, :not_found}
      {:ok, pid} = GenRegistry.start(name, :ended)
      kill(pid)
      assert GenRegistry.stop(name, :ended) == {:error, :not_found}
      {:ok, _} = GenRegistry.start(name, :stopped)
      assert GenRegistry.stop(name, :stopped) == :ok
      assert GenRegistry.stop(name, :stopped) == {:error, :not_found}
    end
  end

  describe "count/1" do
    test "follows starts, stops, ends and failures", context do
      {name, _} = registry(context)
      assert GenRegistry.count(name) == 0

      for n <- 1..100 do
        {:ok, _} = GenRegistry.start(name, n)
        assert GenRegistry.count(name) == n
      end

      {:ok, fifty} = GenRegistry.lookup_or_start(name, 50)
      {:error, _} = GenRegistry.start(name, 50)
      {:error, _} = GenRegistry.start(name, :fails, [:too, :many])
      assert GenRegistry.count(name) == 100

      :ok = GenRegistry.stop(name, 51)
      {:error, :not_found} = GenRegistry.stop(name, 51)
      assert GenRegistry.count(name) == 99
      kill(fifty)
      assert GenRegistry.count(name) == 98
    end
  end

  describe "sample/1" do
    test "is nil when there is nothing to choose from", context do
      {name, _} = registry(context)
      assert GenRegistry.sample(name) == nil
      {:ok, pid} = GenRegistry.start(name, :id)
      assert GenRegistry.sample(name) == {:id, pid}
      :ok = GenRegistry.stop(name, :id)
      assert GenRegistry.sample(name) == nil
    end

    test "chooses each as often as the others, also where others have gone", context do
      {name, _} = registry(context, worker_module: IdleWorker)
      for id <- 1..1_000, do: {:ok, _} = GenRegistry.start(name, id)
      for id <- 11..1_000, do: :ok = GenRegistry.stop(name, id)
      pids = Map.new(GenRegistry.to_list(name))
      assert map_size(pids) == 10

      frequencies =
        Enum.frequencies_by(1..20_000, fn _ ->
          {id, pid} = GenRegistry.sample(name)
          assert pids[id] == pid
          id
        end)

      # 2,000 is expected, and 42 the standard deviation: not once in a million million runs is one
      # eight times that away.
      for id <- 1..10, do: assert_in_delta(frequencies[id] || 0, 2_000, 340)
    end

    test "chooses ids of which nobody knows how large they are as often", context do
      {name, _} = registry(context, worker_module: IdleWorker)
      for id <- 1..10, do: {:ok, _} = GenRegistry.start(name, id)
      for id <- 1..10, do: {:ok, _} = GenRegistry.start(name, <<id::17>>)
      numbers = Enum.count(1..20_000, fn _ -> is_integer(elem(GenRegistry.sample(name), 0)) end)
      # Eight times the standard deviation, as above.
      assert_in_delta numbers, 10_000, 570
    end
  end

  describe "reduce/3 and to_list/1" do
    test "meet every process once", context do
      {name, _} = registry(context, worker_module: IdleWorker)
      assert GenRegistry.to_list(name) == []
      assert GenRegistry.reduce(name, :acc, fn _, _ -> flunk("there is none") end) == :acc

      started =
        for n <- 1..3_000, id = id(n) do
          {:ok, pid} = GenRegistry.start(name, id)
          {id, pid}
        end

      started = Enum.sort(started)
      assert Enum.sort(GenRegistry.to_list(name)) == started
      assert Enum.sort(GenRegistry.reduce(name, [], &[&1 | &2])) == started

      {left, stopped} =
        Enum.split_with(started, fn {_, pid} -> rem(:erlang.phash2(pid), 3) == 0 end)

      for {id, _} <- stopped, do: :ok = GenRegistry.stop(name, id)
      assert Enum.sort(GenRegistry.to_list(name)) == left
    end

    test "meet those that stay exactly once, and none twice, while others come and go", context do
      {name, _} = registry(context, worker_module: IdleWorker)
      staying = for n <- 1..2_000, do: {:staying, id(n)}
      going = for n <- 1..2_000, do: {:going, id(n)}
      for id <- Enum.shuffle(staying ++ going), do: {:ok, _} = GenRegistry.start(name, id)

      # With each entry that is met, one starts and one goes.
      {met, _} =
        GenRegistry.reduce(name, {[], going}, fn {id, _pid}, {met, going} ->
          {:ok, _} = GenRegistry.start(name, {:coming, length(met)})
          {[id | met], stop_one(name, going)}
        end)

      assert met -- Enum.uniq(met) == []
      assert staying -- met == []
    end

    test "are not ended by a function that raises", context do
      {name, _} = registry(context)
      for id <- 1..10, do: {:ok, _} = GenRegistry.start(name, id)

      error = assert_raise RuntimeError, fn -> GenRegistry.reduce(name, 0, &raise_at_three/2) end
      assert error.message == "at the third"
      assert catch_throw(GenRegistry.reduce(name, 0, fn _, _ -> throw(:out) end)) == :out
      assert catch_exit(GenRegistry.reduce(name, 0, fn _, _ -> exit(:out) end)) == :out

      # All as before, and removals still happen.
      assert GenRegistry.reduce(name, 0, fn _, n -> n + 1 end) == 10
      assert GenRegistry.stop(name, 1) == :ok
      assert GenRegistry.count(name) == 9
    end

    test "may be used inside one another, and change what they walk", context do
      {name, _} = registry(context)
      for id <- 1..10, do: {:ok, _} = GenRegistry.start(name, id)

      pairs =
        GenRegistry.reduce(name, 0, fn _, n ->
          GenRegistry.reduce(name, n, fn _, n -> n + 1 end)
        end)

      assert pairs == 100
      GenRegistry.reduce(name, nil, fn {id, _}, _ -> :ok = GenRegistry.stop(name, id) end)
      assert GenRegistry.to_list(name) == []
    end

    test "reduce wants a function of two arguments", context do
      {name, _} = registry(context)

      for bad <- [fn _ -> nil end, fn -> nil end, :fun, nil] do
        assert_raise ArgumentError, ~r/function of two arguments/, fn ->
          GenRegistry.reduce(name, 0, bad)
        end
      end
    end

    test "find the id whose process has the highest value", context do
      {name, _} = registry(context)

      for {id, value} <- [alice: 3, bob: 17, carol: 5, dave: 16] do
        {:ok, _} = GenRegistry.start(name, id, [value])
      end

      # The value is what is compared with, so it is what has to be carried along.
      assert {:bob, 17} =
               GenRegistry.reduce(name, {nil, -1}, fn {id, pid}, {_, highest} = acc ->
                 value = :sys.get_state(pid)
                 if value > highest, do: {id, value}, else: acc
               end)
    end
  end

  describe "a registry that is not running" do
    @functions [:lookup, :lookup_or_start, :start, :count, :sample, :reduce, :to_list]

    defp read(:lookup, name), do: GenRegistry.lookup(name, :id)
    defp read(:lookup_or_start, name), do: GenRegistry.lookup_or_start(name, :id)
    defp read(:start, name), do: GenRegistry.start(name, :id)
    defp read(:count, name), do: GenRegistry.count(name)
    defp read(:sample, name), do: GenRegistry.sample(name)
    defp read(:reduce, name), do: GenRegistry.reduce(name, nil, fn _, _ -> nil end)
    defp read(:to_list, name), do: GenRegistry.to_list(name)

    for function <- @functions do
      test "is named by #{function}", context do
        # One that never ran, and one that ran.
        never = Module.concat(__MODULE__, NeverRan)
        {name, _} = registry(context)
        {:ok, _} = GenRegistry.start(name, :id)
        stop_supervised!(name)

        for name <- [never, name], do: assert_named(unquote(function), name)

        # And once it runs again, all is well.
        {^name, _} = registry(context)
        read(unquote(function), name)
      end
    end

    test "is named in the same way when it was killed", context do
      Process.flag(:trap_exit, true)
      name = Module.concat(__MODULE__, context.test)
      {:ok, pid} = GenRegistry.start_link(ExampleWorker, name: name)
      {:ok, _} = GenRegistry.start(name, :id)
      # By its monitor: what is linked to it, the VM tells before it tells the table.
      kill(pid)

      for function <- @functions, do: assert_named(function, name)
    end

    test "is not another process of that name", context do
      name = Module.concat(__MODULE__, context.test)
      start_supervised!({Agent, fn -> nil end}) |> Process.register(name)

      for function <- @functions, do: assert_named(function, name)
    end

    test "is what reads make of anything that is no name", context do
      {_, pid} = registry(context)

      for other <- [pid, "name", {:name, node()}, 1, nil],
          function <- @functions -- [:lookup_or_start, :start] do
        assert_named(function, other)
      end
    end

    test "is named by stop, which had to call to find that out" do
      assert_raise ArgumentError, ~r/unknown registry: Never.Ran/, fn ->
        GenRegistry.stop(Never.Ran, :id)
      end
    end
  end

  describe "types and behaviour" do
    test "the behaviour has the functions that upstream's has, and GenRegistry has them all" do
      callbacks = GenRegistry.Behaviour.behaviour_info(:callbacks)
      # Those that upstream's has not: its doubles go on without.
      required = callbacks -- GenRegistry.Behaviour.behaviour_info(:optional_callbacks)

      assert Enum.sort(Keyword.keys(required)) ==
               [:count, :lookup, :lookup_or_start, :reduce, :sample, :start, :stop, :to_list]

      for {function, arity} <- callbacks do
        assert function_exported?(GenRegistry, function, arity)
      end

      assert GenRegistry.Behaviour in Keyword.get(
               GenRegistry.module_info(:attributes),
               :behaviour,
               []
             )
    end

    test "a double may be written against them" do
      defmodule Double do
        @behaviour GenRegistry.Behaviour
        @spec lookup(module, GenRegistry.Types.id()) :: {:ok, pid} | {:error, :not_found}
        @impl true
        def lookup(_, _), do: {:error, :not_found}
        @impl true
        def lookup_or_start(_, _, _, _), do: {:error, :double}
        @impl true
        def start(_, _, _, _), do: {:error, :double}
        @impl true
        def stop(_, _), do: {:error, :not_found}
        @impl true
        def count(_), do: 0
        @impl true
        def sample(_), do: nil
        @impl true
        def reduce(_, acc, _), do: acc
        @impl true
        def to_list(_), do: []
      end

      assert Double.lookup(:any, :id) == {:error, :not_found}
      assert {:ok, types} = Code.Typespec.fetch_types(GenRegistry.Types)
      assert [{:type, {:id, _, []}}] = types
    end
  end

  # Ids of every size, which a table may keep in different places.
  defp id(n) when rem(n, 4) == 0, do: n
  defp id(n) when rem(n, 4) == 1, do: "the id #{n}"
  defp id(n) when rem(n, 4) == 2, do: {:user, "with a long id, number #{n}"}
  defp id(n), do: %{number: n, of: [:a, {"large", :id}], text: String.duplicate("text", 20)}

  defp assert_named(function, name) do
    error = assert_raise ArgumentError, fn -> read(function, name) end
    assert error.message =~ inspect(name)
  end

  defp stop_one(_name, []), do: []

  defp stop_one(name, [id | going]) do
    :ok = GenRegistry.stop(name, id)
    going
  end

  defp raise_at_three(_, 2), do: raise("at the third")
  defp raise_at_three(_, n), do: n + 1
end
