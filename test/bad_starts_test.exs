defmodule GenRegistry.BadStartsTest do
  @moduledoc """
  Whatever a worker's start does, its caller is told what happened, and nobody else is harmed.
  """

  use ExUnit.Case, async: true

  # The worker's own crash reports are not news here.
  @moduletag :capture_log

  # A registry, and in it workers that no start of another may harm. They had the same parents as
  # the starts to come, for a starter that is idle is used again.
  setup %{test: test, module: module} do
    name = Module.concat(module, test)
    registry = start_supervised!({GenRegistry, worker_module: FunWorker, name: name})
    {one, new} = look(name, :one)
    {:ok, other} = GenRegistry.start(name, :other, [&idle/0])
    monitors = for pid <- [registry, one, other], do: Process.monitor(pid)
    {:ok, name: name, registry: registry, one: one, other: other, monitors: monitors, new: new}
  end

  defp idle, do: IdleWorker.start_link()

  def return(result), do: result

  # Starts a worker, and tells what the start saw of the process it ran in.
  defp look(name, id) do
    test = self()

    start_link = fn ->
      {:links, links} = Process.info(self(), :links)
      send(test, {:seen, StartSteps.snapshot(), links})
      idle()
    end

    assert {:ok, pid} = GenRegistry.lookup_or_start(name, id, [start_link])
    assert_receive {:seen, seen, links}
    # To the registry, and to workers.
    links = links -- [Process.whereis(name) | pids(name)]
    refute Enum.any?(links, &Process.alive?/1)
    {pid, seen}
  end

  defp pids(name), do: for({_id, pid} <- GenRegistry.to_list(name), do: pid)

  # What `start_link` does is `fun`, and it must end as `expected`; then all is as before.
  defmacrop assert_start(context, expected, fun) do
    quote do
      context = unquote(context)

      for function <- [&GenRegistry.lookup_or_start/3, &GenRegistry.start/3] do
        assert unquote(expected) = function.(context.name, :bad, [unquote(fun)])
        assert_unharmed(context)
      end
    end
  end

  defp assert_unharmed(%{name: name} = context) do
    # The id is free. What may have been told to the starters or the workers, they have heard.
    assert GenRegistry.lookup(name, :bad) == {:error, :not_found}
    assert Enum.sort(GenRegistry.to_list(name)) == [one: context.one, other: context.other]
    assert GenRegistry.count(name) == 2

    # A good start, at once, and under the same id. It finds its process as a new one.
    assert {pid, seen} = look(name, :bad)
    assert seen == context.new
    assert Process.alive?(pid)
    assert GenRegistry.stop(name, :bad) == :ok
    refute Process.alive?(pid)

    # The server is the one it was, and holds nothing of the bad start.
    assert Process.whereis(name) == context.registry
    assert %{starting: 0, stopping: 0, queued: 0} = GenRegistry.info(name)

    for monitor <- context.monitors do
      refute_received {:DOWN, ^monitor, _, _, _}
    end

    assert Process.alive?(context.one)
    assert Process.alive?(context.other)
  end

  describe "what start_link answers" do
    test "{:ok, pid, info} is a start, and the info is dropped", context do
      fun = fn -> :erlang.append_element(idle(), :info) end
      assert {:ok, pid} = GenRegistry.lookup_or_start(context.name, :id, [fun])
      assert GenRegistry.lookup(context.name, :id) == {:ok, pid}
      assert GenRegistry.stop(context.name, :id) == :ok
      assert {:ok, pid} = GenRegistry.start(context.name, :id, [fun])
      assert GenRegistry.start(context.name, :id, [fun]) == {:error, {:already_started, pid}}
    end

    test ":ignore is an error", context do
      assert_start(context, {:error, :ignore}, fn -> :ignore end)
    end

    test ":ignore of a GenServer's init is an error", context do
      defmodule Ignoring do
        use GenServer
        def start_link, do: GenServer.start_link(__MODULE__, nil)
        @impl true
        def init(nil), do: :ignore
      end

      assert_start(context, {:error, :ignore}, &Ignoring.start_link/0)
    end

    test "{:error, reason} is answered as it is", context do
      assert_start(context, {:error, :reason}, fn -> {:error, :reason} end)

      assert_start(context, {:error, {:a, %{deep: ["reason"]}}}, fn ->
        {:error, {:a, %{deep: ["reason"]}}}
      end)

      assert_start(context, {:error, {:error, nil}}, fn -> {:error, {:error, nil}} end)
    end

    test "the reason with which an init stopped is answered", context do
      defmodule Stopping do
        use GenServer
        def start_link(how), do: GenServer.start_link(__MODULE__, how)
        @impl true
        def init({:stop, reason}), do: {:stop, reason}
        def init(:raise), do: raise(ArgumentError, "in init")
        def init({:exit, reason}), do: exit(reason)
        def init({:throw, value}), do: throw(value)
        def init(:kill), do: Process.exit(self(), :kill)
      end

      assert_start(context, {:error, :enough}, fn -> Stopping.start_link({:stop, :enough}) end)
      assert_start(context, {:error, :normal}, fn -> Stopping.start_link({:stop, :normal}) end)

      assert_start(context, {:error, :shutdown}, fn -> Stopping.start_link({:exit, :shutdown}) end)

      assert_start(context, {:error, :killed}, fn -> Stopping.start_link(:kill) end)

      assert_start(context, {:error, {:bad_return_value, :thrown}}, fn ->
        Stopping.start_link({:throw, :thrown})
      end)

      assert_start(context, {:error, {%ArgumentError{message: "in init"}, [_ | _]}}, fn ->
        Stopping.start_link(:raise)
      end)
    end

    for other <- [
          nil,
          :ok,
          :error,
          {:ok, :not_a_pid},
          {:ok, nil},
          {:ok, :not_a_pid, :info},
          {:ok},
          {:error},
          {:error, 1, 2},
          "ok",
          [],
          %{}
        ] do
      test "#{inspect(other)} is a bad return value", context do
        other = unquote(Macro.escape(other))
        assert_start(context, {:error, {:bad_return_value, ^other}}, fn -> other end)
      end
    end

    test "a bare pid is a bad return value", context do
      assert_start(context, {:error, {:bad_return_value, _pid}}, fn ->
        {:ok, pid} = Agent.start_link(fn -> nil end)
        pid
      end)
    end
  end

  describe "how start_link ends without an answer" do
    test "it raises", context do
      assert_start(context, {:error, {%RuntimeError{message: "no"}, [_ | _]}}, fn ->
        raise "no"
      end)
    end

    test "it fails as Erlang's functions do", context do
      assert_start(context, {:error, {%ErlangError{original: :no}, [_ | _]}}, fn ->
        :erlang.error(:no)
      end)

      assert_start(context, {:error, {%MatchError{term: 1}, [_ | _]}}, fn ->
        2 = String.length("1")
      end)
    end

    test "it throws", context do
      assert_start(context, {:error, {{:nocatch, :value}, [_ | _]}}, fn -> throw(:value) end)

      # Also what would be a good answer.
      assert_start(context, {:error, {{:nocatch, {:ok, _}}, [_ | _]}}, fn -> throw(idle()) end)
    end

    test "it exits", context do
      assert_start(context, {:error, :reason}, fn -> exit(:reason) end)
      assert_start(context, {:error, :normal}, fn -> exit(:normal) end)
      assert_start(context, {:error, :shutdown}, fn -> exit(:shutdown) end)
      assert_start(context, {:error, :kill}, fn -> exit(:kill) end)
    end

    test "it exits from a call", context do
      assert_start(context, {:error, {:noproc, {GenServer, :call, _}}}, fn ->
        GenServer.call(:nobody_has_this_name, :hello)
      end)
    end

    test "it does not exist with so many arguments", context do
      for args <- [[], [1, 2], [1, 2, 3]] do
        arity = length(args)

        assert {:error, {%UndefinedFunctionError{} = error, [_ | _]}} =
                 GenRegistry.lookup_or_start(context.name, :bad, args)

        assert %{module: FunWorker, function: :start_link, arity: ^arity} = error
        assert_unharmed(context)
      end
    end

    test "its clauses take no such argument", context do
      assert {:error, {%BadFunctionError{term: :no_function}, [_ | _]}} =
               GenRegistry.start(context.name, :bad, [:no_function])

      assert_unharmed(context)
    end

    test "its module does not exist", %{test: test} do
      name = Module.concat([__MODULE__, test, Nowhere])
      start_supervised!({GenRegistry, worker_module: No.Such.Module, name: name})

      for _ <- 1..2 do
        assert {:error, {%UndefinedFunctionError{module: No.Such.Module}, [_ | _]}} =
                 GenRegistry.lookup_or_start(name, :id)
      end

      assert GenRegistry.count(name) == 0
    end
  end

  describe "a process that cannot be the id's" do
    test "one that is dead", context do
      assert_start(context, {:ok, _pid}, fn ->
        {pid, monitor} = spawn_monitor(fn -> :ok end)
        receive(do: ({:DOWN, ^monitor, _, _, _} -> {:ok, pid}))
      end)
    end

    test "one that died of its own, which it was linked to", context do
      assert_start(context, {:ok, _pid}, fn ->
        pid = spawn_link(fn -> exit(:early_end) end)
        monitor = Process.monitor(pid)
        receive(do: ({:DOWN, ^monitor, _, _, _} -> {:ok, pid}))
      end)
    end

    test "the one that runs start_link", context do
      assert_start(context, {:error, {:already_registered, _pid}}, fn ->
        {:ok, self()}
      end)
    end

    test "the registry", %{registry: registry} = context do
      assert_start(context, {:error, {:already_registered, ^registry}}, fn ->
        {:ok, registry}
      end)
    end

    test "that of another id", %{one: one} = context do
      assert_start(context, {:error, {:already_registered, ^one}}, fn -> {:ok, one} end)
      assert_start(context, {:error, {:already_registered, ^one}}, fn -> {:ok, one, :info} end)
    end

    test "one on another node", context do
      pid = remote_pid()
      assert_start(context, {:error, {:not_local, ^pid}}, fn -> {:ok, pid} end)
      assert_start(context, {:error, {:not_local, ^pid}}, fn -> {:ok, pid, :info} end)
    end
  end

  describe "what start_link does to the process that runs it" do
    test "it stops trapping exits, and the worker crashes later", context do
      fun = fn ->
        Process.flag(:trap_exit, false)
        idle()
      end

      assert {:ok, pid} = GenRegistry.lookup_or_start(context.name, :bad, [fun])
      crash(pid)
      assert_unharmed(context)
    end

    for {how, later} <- [
          {"and goes on", quote(do: idle())},
          {"and is killed", quote(do: Process.exit(self(), :kill))}
        ] do
      test "it unlinks the registry #{how}; a later start that is killed is told so", context do
        %{name: name, registry: registry} = context

        unlinks = fn ->
          Process.unlink(registry)
          unquote(later)
        end

        killed = fn -> Process.exit(self(), :kill) end

        for id <- [:first, :second] do
          _ = GenRegistry.start(name, id, [unlinks], 60_000)
          {:error, {:starter_died, :killed}} = GenRegistry.start(name, :killed, [killed], 60_000)
        end

        assert {:ok, _} = GenRegistry.start(name, :bad, [&idle/0], 60_000)
        assert %{starting: 0, queued: 0} = GenRegistry.info(name)
      end
    end

    test "it unlinks the registry, and its process is killed when it waits", context do
      fun = fn ->
        Process.unlink(context.registry)
        idle()
      end

      assert {:ok, pid} = GenRegistry.start(context.name, :bad, [fun])
      {:parent, starter} = Process.info(pid, :parent)
      monitor = Process.monitor(starter)
      Process.exit(starter, :kill)
      assert_receive {:DOWN, ^monitor, _, _, :killed}
      assert {:ok, _} = GenRegistry.start(context.name, :next, [&idle/0], 60_000)
    end

    test "it ends its process as if that had done its work: what that has started ends too",
         context do
      start_link = fn ->
        {:ok, pid} = idle()
        send(self(), :go_on)
        :erlang.hibernate(__MODULE__, :return, [{:ok, pid}])
      end

      {:ok, first} = GenRegistry.start(context.name, :first, [&idle/0])
      monitors = for pid <- [first, context.one, context.other], do: Process.monitor(pid)

      assert {:error, {:starter_died, :normal}} =
               GenRegistry.start(context.name, :bad, [start_link], 60_000)

      # All of them had this parent.
      for monitor <- monitors, do: assert_receive({:DOWN, ^monitor, _, _, :shutdown}, 60_000)
      assert GenRegistry.count(context.name) == 0
    end

    test "it has signals of its end come to the registry", context do
      for reason <- [:normal, :crash] do
        fun = fn ->
          Process.exit(context.registry, reason)
          send(context.registry, {:DOWN, make_ref(), :process, self(), reason})
          idle()
        end

        assert {:ok, _} = GenRegistry.lookup_or_start(context.name, :bad, [fun])
        assert GenRegistry.stop(context.name, :bad) == :ok
        assert_unharmed(context)
      end
    end

    test "it suspends another worker, as often as it likes", context do
      for ending <- [&idle/0, fn -> {:error, :refused} end] do
        fun = fn ->
          for _ <- 1..3, do: :erlang.suspend_process(context.one)
          ending.()
        end

        _ = GenRegistry.start(context.name, :bad, [fun])
        assert {:status, status} = Process.info(context.one, :status)
        assert status != :suspended
        _ = GenRegistry.stop(context.name, :bad)
        assert_unharmed(context)
      end
    end

    test "it links to a process that crashes", context do
      fun = fn ->
        pid = spawn_link(fn -> exit(:crash) end)
        monitor = Process.monitor(pid)
        receive(do: ({:DOWN, ^monitor, _, _, _} -> idle()))
      end

      assert {:ok, _} = GenRegistry.lookup_or_start(context.name, :bad, [fun])
      assert GenRegistry.stop(context.name, :bad) == :ok
      assert_unharmed(context)
    end

    test "it leaves messages of every kind", context do
      fun = fn ->
        registry = context.registry

        for message <- [
              :hello,
              {:"$gen_call", {self(), make_ref()}, :hello},
              {:"$gen_cast", :hello},
              {make_ref(), {:ok, self()}},
              {:DOWN, make_ref(), :process, registry, :killed},
              {:EXIT, self(), :normal},
              {:EXIT, context.one, :killed},
              :timeout,
              {:started, self(), :one, {:ok, self()}}
            ],
            do: send(self(), message)

        idle()
      end

      assert {:ok, pid} = GenRegistry.lookup_or_start(context.name, :bad, [fun])
      assert Process.alive?(pid)
      assert GenRegistry.stop(context.name, :bad) == :ok
      assert_unharmed(context)
    end

    test "it leaves messages in the registry's mailbox", context do
      fun = fn ->
        for message <- [
              :hello,
              {:"$gen_cast", :hello},
              {make_ref(), :late_answer},
              {:DOWN, make_ref(), :process, context.one, :killed},
              {:EXIT, context.one, :killed}
            ],
            do: send(context.registry, message)

        {:error, :left}
      end

      assert_start(context, {:error, :left}, fun)
    end

    test "it reads what is in the mailbox", context do
      fun = fn ->
        send(self(), :last)
        empty_mailbox()
        idle()
      end

      assert {:ok, _} = GenRegistry.lookup_or_start(context.name, :bad, [fun])
      assert GenRegistry.stop(context.name, :bad) == :ok
      assert_unharmed(context)
    end

    test "it calls the registry it is started by", context do
      fun = fn ->
        {:ok, friend} = GenRegistry.lookup_or_start(context.name, :friend, [&idle/0])
        :ok = GenRegistry.stop(context.name, :friend)
        {:error, {:my_friend_was, friend}}
      end

      assert_start(context, {:error, {:my_friend_was, _pid}}, fun)
    end
  end

  # It is the parent of workers, and a parent's death is theirs: but not that of others' workers.
  describe "a start_link that kills the process that runs it" do
    setup %{name: name} do
      test = self()

      # While one start holds up its starter, the next one has another.
      task =
        Task.async(fn ->
          GenRegistry.start(name, :before, [
            fn ->
              send(test, {:starting, self()})
              receive do: (:go_on -> idle())
            end
          ])
        end)

      assert_receive {:starting, starter}
      {:ok, elsewhere} = GenRegistry.start(name, :elsewhere, [&idle/0])
      send(starter, :go_on)
      {:ok, _} = Task.await(task)
      {:ok, elsewhere: elsewhere, starter: starter}
    end

    test "by a signal", context do
      assert_only_its_own(context, {:starter_died, :killed}, fn ->
        Process.exit(self(), :kill)
      end)
    end

    test "by no more trapping exits, when the worker crashes in its init", context do
      assert_only_its_own(context, {:starter_died, :crash}, fn ->
        Process.flag(:trap_exit, false)
        :proc_lib.start_link(:erlang, :exit, [:crash])
      end)
    end

    defp assert_only_its_own(context, reason, fun) do
      %{name: name, starter: starter} = context
      monitor = Process.monitor(starter)
      assert GenRegistry.lookup_or_start(name, :bad, [fun]) == {:error, reason}
      assert_receive {:DOWN, ^monitor, _, _, _}

      assert Process.alive?(context.elsewhere)
      assert GenRegistry.lookup(name, :elsewhere) == {:ok, context.elsewhere}
      assert Process.whereis(name) == context.registry
      assert {:ok, pid} = GenRegistry.lookup_or_start(name, :bad, [&idle/0])
      assert Process.alive?(pid)
    end
  end

  describe "args that are not a list" do
    test "raise in the caller, and the registry hears nothing of it", context do
      :ok = :sys.suspend(context.registry)

      for bad <- [nil, :arg, "args", %{}, {1, 2}, 1, [1 | 2], [1, 2 | :tail]],
          function <- [&GenRegistry.lookup_or_start/3, &GenRegistry.start/3],
          registry <- [context.name, context.registry, {context.name, node()}] do
        error = assert_raise ArgumentError, fn -> function.(registry, :bad, bad) end
        assert error.message =~ "args"
        assert error.message =~ inspect(bad)
      end

      assert Process.info(context.registry, :message_queue_len) == {:message_queue_len, 0}
      :ok = :sys.resume(context.registry)
      assert_unharmed(context)
    end
  end

  # One who waits for the same id is not told of a failure that is not its own.
  test "a start that fails is tried again with the arguments of the next in line", context do
    test = self()

    fails = fn ->
      send(test, {:begun, self()})
      receive(do: (:go_on -> {:error, :mine}))
    end

    first = Task.async(fn -> GenRegistry.lookup_or_start(context.name, :bad, [fails]) end)
    assert_receive {:begun, starter}

    second = Task.async(fn -> GenRegistry.lookup_or_start(context.name, :bad, [&idle/0]) end)
    Lifecycle.await_call(second.pid)

    send(starter, :go_on)
    assert Task.await(first) == {:error, :mine}
    assert {:ok, pid} = Task.await(second)
    assert GenRegistry.lookup(context.name, :bad) == {:ok, pid}
  end

  defp crash(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :crash)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :crash}
  end

  defp empty_mailbox do
    receive do
      :last -> :ok
      _ -> empty_mailbox()
    end
  end

  # NEW_PID_EXT, of a node that there is not.
  defp remote_pid do
    node = "other@nowhere"
    :erlang.binary_to_term(<<131, 88, 119, byte_size(node), node::binary, 1::32, 2::32, 3::32>>)
  end
end
