defmodule GenRegistry.CallsTest do
  @moduledoc """
  How callers reach a registry's process: by which messages, by whose `call/3`, how long they wait.
  """

  use ExUnit.Case, async: true

  @moduletag :capture_log

  setup %{test: test, module: module} do
    name = Module.concat(module, test)
    registry = start_supervised!({GenRegistry, worker_module: FunWorker, name: name})
    {:ok, name: name, registry: registry}
  end

  defp idle, do: IdleWorker.start_link()
  defp no_start, do: flunk("there is nothing to start")

  defmodule Proxy do
    @moduledoc "Stands in for a registry: relays all calls, and tells the test of each."

    use GenServer

    def init(state), do: {:ok, state}

    # By a call of its own, so the caller waits for the proxy, and the proxy for the registry.
    def handle_call(message, _from, %{how: :call} = state) do
      send(state.test, {:seen, message})
      {:reply, GenServer.call(state.registry, message), state}
    end

    # By handing the call on: the registry answers the caller itself.
    def handle_call(message, from, %{how: :hand_on} = state) do
      send(state.test, {:seen, message})
      send(state.registry, {:"$gen_call", from, message})
      {:noreply, state}
    end
  end

  # Takes the registry's name from it and gives it to a proxy.
  defp put_proxy(%{name: name, registry: registry}, how) do
    proxy =
      start_supervised!(%{
        id: :proxy,
        start: {GenServer, :start_link, [Proxy, %{how: how, registry: registry, test: self()}]}
      })

    Process.unregister(name)
    Process.register(proxy, name)
    proxy
  end

  test "a registry that ends in order before it reads a request has none to serve" do
    ending = fn reason ->
      spawn(fn -> receive do: ({:"$gen_call", _from, _request} -> exit(reason)) end)
    end

    for reason <- [:normal, :shutdown, {:shutdown, :upgrade}],
        start <- [&GenRegistry.start/3, &GenRegistry.lookup_or_start/3] do
      assert start.(ending.(reason), :id, []) == {:error, :shutdown}
    end

    assert {:crash, {GenServer, :call, _}} =
             catch_exit(GenRegistry.start(ending.(:crash), :id, []))
  end

  # Its table is there until the VM has told it of the end of its server.
  test "one that is gone is not running, also between a look and a call", context do
    Process.unregister(context.name)

    for call <- [
          fn -> GenRegistry.start(context.name, :id) end,
          fn -> GenRegistry.lookup_or_start(context.name, :id) end,
          fn -> GenRegistry.register_name({context.name, :id}, self()) end
        ] do
      assert_raise ArgumentError, ~r/unknown registry/, call
    end
  end

  describe "messages" do
    test "are those that upstream's users know", context do
      # Whoever has the name gets them; nobody here answers.
      name = context.name
      Process.unregister(name)
      Process.register(self(), name)
      test = self()

      calls = [
        {fn -> GenRegistry.lookup_or_start(name, :id) end, {:lookup_or_start, :id, []}},
        {fn -> GenRegistry.lookup_or_start(name, {1}, [2]) end, {:lookup_or_start, {1}, [2]}},
        {fn -> GenRegistry.start(name, "id", []) end, {:start, "id", []}},
        {fn -> GenRegistry.start(name, nil, [:a, :b]) end, {:start, nil, [:a, :b]}},
        {fn -> GenRegistry.stop(name, :id) end, {:stop, :id}},
        {fn -> GenRegistry.lookup_or_start(test, :id) end, {:lookup_or_start, :id, []}},
        {fn -> GenRegistry.start({name, node()}, :id) end, {:start, :id, []}},
        {fn -> GenRegistry.stop(test, :id) end, {:stop, :id}}
      ]

      for {call, message} <- calls do
        task = Task.async(call)
        assert_receive {:"$gen_call", from, ^message}
        GenServer.reply(from, {:answer_to, message})

        # Which is passed on as it is.
        assert Task.await(task) == {:answer_to, message}
      end
    end

    test "are none for what the table can tell", context do
      %{name: name, registry: registry} = context
      {:ok, pid} = GenRegistry.start(name, :id, [&idle/0])
      :ok = :sys.suspend(registry)

      assert GenRegistry.lookup_or_start(name, :id, [&no_start/0], 0) == {:ok, pid}
      assert GenRegistry.start(name, :id, [&no_start/0], 0) == {:error, {:already_started, pid}}
      assert GenRegistry.lookup(name, :id) == {:ok, pid}
      assert GenRegistry.lookup(name, :other) == {:error, :not_found}
      assert GenRegistry.count(name) == 1
      assert GenRegistry.sample(name) == {:id, pid}
      assert GenRegistry.to_list(name) == [{:id, pid}]
      assert GenRegistry.reduce(name, 0, fn _, n -> n + 1 end) == 1
      assert Process.info(registry, :message_queue_len) == {:message_queue_len, 0}

      :ok = :sys.resume(registry)
    end
  end

  describe "a process under the registry's name" do
    for how <- [:call, :hand_on] do
      test "sees every miss and no hit, and relays all: #{how}", context do
        put_proxy(context, unquote(how))
        name = context.name
        args = [&idle/0]

        assert {:ok, a} = GenRegistry.lookup_or_start(name, :a, args)
        assert_receive {:seen, {:lookup_or_start, :a, ^args}}
        assert {:ok, b} = GenRegistry.start(name, :b, args)
        assert_receive {:seen, {:start, :b, ^args}}

        assert GenRegistry.lookup_or_start(name, :a, args) == {:ok, a}
        assert GenRegistry.start(name, :b, args) == {:error, {:already_started, b}}
        assert GenRegistry.lookup(name, :b) == {:ok, b}
        assert GenRegistry.lookup(name, :c) == {:error, :not_found}
        assert GenRegistry.count(name) == 2
        assert Enum.sort(GenRegistry.to_list(name)) == [a: a, b: b]
        refute_received {:seen, _}

        failing = [fn -> {:error, :no} end]
        assert GenRegistry.lookup_or_start(name, :c, failing) == {:error, :no}
        assert_receive {:seen, {:lookup_or_start, :c, ^failing}}
        assert GenRegistry.start(name, :c, failing) == {:error, :no}
        assert_receive {:seen, {:start, :c, ^failing}}

        assert GenRegistry.stop(name, :a) == :ok
        assert_receive {:seen, {:stop, :a}}
        assert GenRegistry.stop(name, :a) == {:error, :not_found}
        assert_receive {:seen, {:stop, :a}}

        # A miss again.
        assert {:ok, again} = GenRegistry.lookup_or_start(name, :a, args)
        assert again != a
        assert_receive {:seen, {:lookup_or_start, :a, ^args}}
        refute_received {:seen, _}
      end
    end

    # All it must know are the three calls.
    test "hears nothing more from a caller that waits no longer", context do
      proxy = put_proxy(context, :hand_on)
      {fun, go_on} = blocking()
      assert {:timeout, _} = catch_exit(GenRegistry.lookup_or_start(context.name, :id, [fun], 1))
      go_on.()
      assert %{how: :hand_on} = :sys.get_state(proxy)
    end
  end

  describe "a registry" do
    test "may be a pid, and a name on a node: then it does the lookup", context do
      %{name: name, registry: registry} = context

      for server <- [registry, {name, node()}] do
        assert {:ok, pid} = GenRegistry.lookup_or_start(server, :id, [&idle/0])
        assert GenRegistry.lookup(name, :id) == {:ok, pid}
        assert GenRegistry.lookup_or_start(server, :id, [&no_start/0]) == {:ok, pid}

        assert GenRegistry.start(server, :id, [&no_start/0]) ==
                 {:error, {:already_started, pid}}

        assert {:ok, other} = GenRegistry.start(server, :other, [&idle/0])
        assert GenRegistry.lookup(name, :other) == {:ok, other}
        assert GenRegistry.lookup_or_start(server, :bad, [fn -> :ignore end]) == {:error, :ignore}

        assert GenRegistry.stop(server, :id) == :ok
        refute Process.alive?(pid)
        assert GenRegistry.stop(server, :id) == {:error, :not_found}
        assert GenRegistry.stop(server, :other) == :ok
      end
    end

    test "that is not there makes calls exit", context do
      stop_supervised!(context.name)

      for server <- [context.registry, {context.name, node()}],
          call <- [
            fn -> GenRegistry.lookup_or_start(server, :id) end,
            fn -> GenRegistry.start(server, :id) end,
            fn -> GenRegistry.stop(server, :id) end
          ] do
        assert {:noproc, {GenServer, :call, [^server | _]}} = catch_exit(call.())
      end

      assert {{:nodedown, :no@where}, _} =
               catch_exit(GenRegistry.lookup_or_start({context.name, :no@where}, :id))
    end

    test "cannot be anything else", context do
      for bad <- [
            "name",
            1,
            {:global, :name, 1},
            {:via, Registry, {R, 1}},
            {context.name, "node"}
          ],
          call <- [
            fn -> GenRegistry.lookup_or_start(bad, :id) end,
            fn -> GenRegistry.start(bad, :id) end,
            fn -> GenRegistry.stop(bad, :id) end
          ] do
        error = assert_raise ArgumentError, call
        assert error.message =~ inspect(bad)
      end
    end
  end

  describe "timeouts" do
    test "end the wait and not the start", context do
      %{name: name, registry: registry} = context

      for {function, kind} <- [
            {&GenRegistry.lookup_or_start/4, :lookup_or_start},
            {&GenRegistry.start/4, :start}
          ],
          {server, timeout} <- [{name, 100}, {registry, 0}, {registry, 1}, {{name, node()}, 0}] do
        {fun, go_on} = blocking()
        message = {kind, :id, [fun]}

        assert {:timeout, {GenServer, :call, [^server, ^message, ^timeout]}} =
                 catch_exit(function.(server, :id, [fun], timeout))

        pid = go_on.()
        assert GenRegistry.lookup_or_start(name, :id, [&no_start/0], :infinity) == {:ok, pid}
        assert GenRegistry.lookup(name, :id) == {:ok, pid}
        assert GenRegistry.stop(name, :id) == :ok
      end
    end

    test "are as long as is said", context do
      {fun, go_on} = blocking()
      name = context.name
      task = Task.async(fn -> GenRegistry.lookup_or_start(name, :id, [fun], :infinity) end)
      pid = go_on.()
      assert Task.await(task) == {:ok, pid}
    end

    test "of stop end the wait and not the stop", context do
      test = self()

      # Takes its time until it is told.
      slow = fn ->
        {:ok,
         spawn_link(fn ->
           Process.flag(:trap_exit, true)
           send(test, :traps)
           receive(do: ({:EXIT, _, :shutdown} -> receive(do: (:end -> :ok))))
         end)}
      end

      for server <- [context.name, context.registry, {context.name, node()}] do
        {:ok, pid} = GenRegistry.start(server, :id, [slow])
        assert_receive :traps

        assert {:timeout, {GenServer, :call, [^server, {:stop, :id}, 1]}} =
                 catch_exit(GenRegistry.stop(server, :id, 1))

        # Which it may have heard of only now.
        :sys.get_state(context.registry)

        # Gone for lookups, and not for the next one who wants to see the end of it.
        assert GenRegistry.lookup(context.name, :id) == {:error, :not_found}
        assert Process.alive?(pid)
        send(pid, :end)
        assert GenRegistry.stop(server, :id) in [:ok, {:error, :not_found}]
        refute Process.alive?(pid)
      end
    end

    test "are numbers of milliseconds or :infinity", context do
      for bad <- [-1, 1.5, :forever, nil, "1"],
          server <- [context.name, context.registry],
          call <- [
            fn -> GenRegistry.lookup_or_start(server, :id, [], bad) end,
            fn -> GenRegistry.start(server, :id, [], bad) end,
            fn -> GenRegistry.stop(server, :id, bad) end
          ] do
        error = assert_raise ArgumentError, call
        assert error.message =~ "timeout"
        assert error.message =~ inspect(bad)
      end
    end
  end

  # Its own VM, for the setting is read when `GenRegistry` is compiled.
  describe "config :gen_registry, gen_module: Module" do
    setup do
      vm = start_supervised!({OtherVM, {:vm, %{}, []}})
      source = Path.expand("../lib/gen_registry.ex", __DIR__)

      OtherVM.eval(
        vm,
        quote do
          Application.put_env(:gen_registry, :gen_module, LoggingGen)
          Code.put_compiler_option(:ignore_module_conflict, true)
          Code.compile_file(unquote(source))
          {:ok, registry} = GenRegistry.start_link(IdleWorker, name: R)
          # Or it would end with the process that does all this.
          Process.unlink(registry)
          :ok
        end
      )

      {:ok, vm: vm}
    end

    test "its call/3 makes every call to a registry", %{vm: vm} do
      assert OtherVM.eval(
               vm,
               quote do
                 registry = Process.whereis(R)
                 {:ok, pid} = GenRegistry.lookup_or_start(R, 1)
                 {:ok, pid} = GenRegistry.lookup_or_start(R, 1)
                 {:error, {:already_started, ^pid}} = GenRegistry.start(R, 1)
                 {:ok, _} = GenRegistry.start(R, 2, [:arg], 1_000)
                 {:ok, ^pid} = GenRegistry.lookup_or_start(registry, 1, [], :infinity)
                 {:error, {:already_started, ^pid}} = GenRegistry.start({R, node()}, 1)
                 2 = GenRegistry.count(R)
                 :ok = GenRegistry.stop(R, 1)
                 {:error, :not_found} = GenRegistry.stop(registry, 1, 100)

                 LoggingGen.calls() == [
                   {R, {:lookup_or_start, 1, []}, 5_000},
                   {R, {:start, 2, [:arg]}, 1_000},
                   {registry, {:lookup_or_start, 1, []}, :infinity},
                   {{R, node()}, {:start, 1, []}, 5_000},
                   {R, {:stop, 1}, :infinity},
                   {registry, {:stop, 1}, 100}
                 ]
               end
             )
    end

    test "what it answers is the answer", %{vm: vm} do
      assert OtherVM.eval(
               vm,
               quote do
                 Process.put(:canned, {:canned, :answer})

                 [
                   GenRegistry.lookup_or_start(R, 1),
                   GenRegistry.start(R, 1),
                   GenRegistry.stop(R, 1)
                 ]
               end
             ) == List.duplicate({:canned, :answer}, 3)
    end
  end

  test "a registry on another node has its own workers, and hands out their pids" do
    {there, here} = OtherVM.start_two()

    OtherVM.eval(
      there,
      quote do
        {:ok, registry} = GenRegistry.start_link(IdleWorker, name: R)
        Process.unlink(registry)
      end
    )

    assert OtherVM.eval(
             here,
             quote do
               server = {R, :"there@127.0.0.1"}
               true = Node.connect(:"there@127.0.0.1")
               {:ok, pid} = GenRegistry.lookup_or_start(server, {:user, 1})
               {:ok, ^pid} = GenRegistry.lookup_or_start(server, {:user, 1})
               :"there@127.0.0.1" = node(pid)
               {:error, {:already_started, ^pid}} = GenRegistry.start(server, {:user, 1})
               registry = :erpc.call(node(pid), Process, :whereis, [R])
               {:ok, ^pid} = GenRegistry.lookup_or_start(registry, {:user, 1})

               # Ids and workers of this node, there.
               {:ok, mine} = GenRegistry.start(server, self())
               {:ok, ^mine} = GenRegistry.lookup_or_start(server, self())
               {:ok, ^mine} = :erpc.call(node(pid), GenRegistry, :lookup, [R, self()])

               # A registry here whose workers would be there.
               {:ok, local} = GenRegistry.start_link(FunWorker, name: F)
               {:error, {:not_local, ^pid}} = GenRegistry.start(F, 1, [fn -> {:ok, pid} end])
               0 = GenRegistry.count(F)

               2 = :erpc.call(node(pid), GenRegistry, :count, [R])
               :ok = GenRegistry.stop(server, {:user, 1})
               false = :erpc.call(node(pid), Process, :alive?, [pid])
               {:error, :not_found} = GenRegistry.stop(server, {:user, 1})
             end
           ) == {:error, :not_found}
  end

  # A start that waits until it is told to go on, which answers the process it has started.
  defp blocking do
    test = self()
    reference = make_ref()

    fun = fn ->
      send(test, {reference, self()})
      receive(do: (^reference -> :ok))
      {:ok, pid} = idle()
      send(test, {reference, :started, pid})
      {:ok, pid}
    end

    go_on = fn ->
      assert_receive {^reference, starter}
      send(starter, reference)
      assert_receive {^reference, :started, pid}
      pid
    end

    {fun, go_on}
  end
end
