defmodule GenRegistry.RequestsTest do
  @moduledoc """
  `GenRegistry.call/4` and `GenRegistry.cast/4`: what was gone before it could have seen a request is
  found or started again, and nobody gets a request that another process may have handled.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  # Counts itself, in the worker, then does what it is for.
  defp counted(fun) do
    count = :counters.new(1, [])

    request = fn ->
      :counters.add(count, 1, 1)
      fun.()
    end

    {{:run, request}, fn -> :counters.get(count, 1) end}
  end

  defp run(registry, id, fun, opts \\ []) do
    GenRegistry.call(registry, id, {:run, fun}, [args: [plain()]] ++ opts)
  end

  # What a failed call leaves: neither messages nor monitors.
  defp assert_clean do
    refute_received _
    assert Process.info(self(), :monitors) == {:monitors, []}
  end

  # A process that is dead already.
  defp dead do
    {pid, monitor} = spawn_monitor(fn -> :ok end)
    receive(do: ({:DOWN, ^monitor, _, _, _} -> pid))
  end

  describe "call/4" do
    test "starts the process of an id, then finds it", context do
      registry = registry(context)
      pid = run(registry, :id, &self/0)
      assert GenRegistry.lookup(registry, :id) == {:ok, pid}

      for server <- [registry, Process.whereis(registry), {registry, node()}] do
        assert run(server, :id, &self/0) == pid
      end

      assert run(registry, :other, &self/0) != pid
      assert_clean()
    end

    test "returns any reply as it is", context do
      registry = registry(context)

      for reply <- [nil, :again, :timeout, {:error, :no}, {:exit, :no}, {:ok, 1}] do
        assert run(registry, :id, fn -> reply end) == reply
      end
    end

    test "reaches guests", context do
      registry = registry(context)
      {:ok, guest} = Agent.start_link(fn -> :guest end)
      :yes = GenRegistry.register_name({registry, :id}, guest)
      assert GenRegistry.call(registry, :id, {:get, & &1}) == :guest
    end

    test "is told of the caller, whose mailbox may be full", context do
      registry = registry(context)
      for n <- 1..1_000, do: send(self(), {:message, n})
      start!(registry, :id, fn -> {:ok, nil} end)
      assert run(registry, :id, fn -> :reply end) == :reply
      for n <- 1..1_000, do: assert_received({:message, ^n})
      assert_clean()
    end

    test "does not look at what was in the caller's mailbox before", context do
      registry = registry(context)
      start!(registry, :id)

      cost = fn ->
        {:reductions, before} = Process.info(self(), :reductions)
        for _ <- 1..10, do: run(registry, :id, fn -> :reply end)
        {:reductions, now} = Process.info(self(), :reductions)
        now - before
      end

      empty = cost.()
      for n <- 1..100_000, do: send(self(), {:message, n})
      # A collection of the heap may be in it. To look at each message ten times takes a million.
      assert cost.() < empty + 500_000
    end

    test "asks the next process, if one has ended for want of work", context do
      registry = registry(context)
      pid = start!(registry, :id)
      # It takes the order to end first, and does not read the request.
      :sys.suspend(pid)
      {request, count} = counted(fn -> self() end)
      call = ask(fn -> GenRegistry.call(registry, :id, request, args: [plain()]) end)
      :sys.terminate(pid, {:shutdown, :idle}, :infinity)
      next = answer(call)
      assert next != pid
      assert GenRegistry.lookup(registry, :id) == {:ok, next}
      assert count.() == 1
    end

    for reason <- [:normal, :shutdown, :noproc, :idle, {:shutdown, :other}, {:shutdown, :idle, 1}] do
      test "asks nobody else if one ends otherwise: #{inspect(reason)}", context do
        registry = registry(context)
        reason = unquote(Macro.escape(reason))
        {request, count} = counted(fn -> exit(reason) end)
        opts = [args: [plain()]]

        assert {^reason, {GenRegistry, :call, [^registry, :id, ^request, ^opts]}} =
                 catch_exit(GenRegistry.call(registry, :id, request, opts))

        assert count.() == 1
        assert_clean()
      end
    end

    test "asks nobody else if one is killed or stopped over it", context do
      registry = registry(context)
      test = self()

      for {how, reason} <- [
            {&Process.exit(&1, :kill), :killed},
            {fn _pid -> GenRegistry.stop(registry, :id) end, :shutdown}
          ] do
        {request, count} = counted(fn -> wait(test, :handling) end)
        call = ask(fn -> GenRegistry.call(registry, :id, request, args: [plain()]) end)
        how.(reached(:handling))
        assert {:exit, {^reason, {GenRegistry, :call, _}}} = answer(call)
        assert count.() == 1
      end
    end

    test "starts another one if the first has ended already", context do
      registry = registry(context, worker_module: FunWorker)
      starts = :counters.new(1, [])

      start_link = fn ->
        :counters.add(starts, 1, 1)

        if :counters.get(starts, 1) < 5,
          do: {:ok, dead()},
          else: Agent.start_link(fn -> :alive end)
      end

      assert GenRegistry.call(registry, :id, {:get, & &1}, args: [start_link]) == :alive
      assert :counters.get(starts, 1) == 5
    end

    # Its timeout comes before any message.
    test "never reaches a worker whose init returns a timeout of 0", context do
      defmodule AtOnce do
        use GenServer
        def start_link(count), do: GenServer.start_link(__MODULE__, count)
        @impl true
        def init(count), do: {:ok, count, 0}
        @impl true
        def handle_call(:request, _from, count) do
          :counters.add(count, 1, 1)
          {:reply, :reply, count, 0}
        end

        @impl true
        def handle_info(:timeout, count), do: {:stop, {:shutdown, :idle}, count}
      end

      registry = registry(context, worker_module: AtOnce)
      count = :counters.new(1, [])
      call = fn -> GenRegistry.call(registry, :id, :request, args: [count], timeout: 50) end
      assert {:timeout, {GenRegistry, :call, _}} = catch_exit(call.())
      assert :counters.get(count, 1) == 0
      assert_clean()
    end

    test "exits if nothing can be started", context do
      registry = registry(context, max_children: 1)
      start!(registry, :resident)

      for {init, why} <- [
            {fn -> {:stop, :no} end, :max_children},
            {plain(), :max_children}
          ] do
        opts = [args: [init]]

        assert {{:start_failed, ^why}, {GenRegistry, :call, [^registry, :id, :request, ^opts]}} =
                 catch_exit(GenRegistry.call(registry, :id, :request, opts))
      end

      assert GenRegistry.stop(registry, :resident) == :ok

      for {init, why} <- [
            {fn -> {:stop, :no} end, :no},
            {fn -> :ignore end, :ignore},
            {fn -> {:stop, {:timeout, {GenServer, :call, []}}} end,
             {:timeout, {GenServer, :call, []}}}
          ] do
        assert {{:start_failed, ^why}, {GenRegistry, :call, _}} =
                 catch_exit(GenRegistry.call(registry, :id, :request, args: [init]))
      end

      assert_clean()
    end

    test "exits for a process that calls itself", context do
      registry = registry(context)
      calls_itself = fn -> catch_exit(GenRegistry.call(registry, :id, :request)) end

      assert {:calling_self, {GenRegistry, :call, [^registry, :id, :request, []]}} =
               run(registry, :id, calls_itself)

      # In its init, it waits for its own start.
      test = self()
      init = in_init(fn -> send(test, {:exit, catch_exit(run(registry, :new, &self/0))}) end)
      run = fn -> GenRegistry.call(registry, :new, {:run, &self/0}, args: init) end
      assert is_pid(run.())

      assert_receive {:exit,
                      {{:start_failed, {:deadlock, [{^registry, :new}]}}, {GenRegistry, :call, _}}}

      assert_clean()
    end
  end

  describe "the timeout" do
    test "is for all of it", context do
      registry = registry(context)
      start!(registry, :id)
      hanging = {:run, &hang/0}
      opts = [timeout: 20, args: [fn -> hang() end]]

      for id <- [:id, :new] do
        assert {:timeout, {GenRegistry, :call, [^registry, ^id, ^hanging, ^opts]}} =
                 catch_exit(GenRegistry.call(registry, id, hanging, opts))
      end

      assert_clean()
    end

    test "drops a reply that comes after it", context do
      registry = registry(context)
      pid = start!(registry, :id)

      for timeout <- [0, 1, 20] do
        :sys.suspend(pid)
        call = fn -> run(registry, :id, fn -> :late end, timeout: timeout) end
        assert {:timeout, {GenRegistry, :call, _}} = catch_exit(call.())
        :sys.resume(pid)
        # It has replied.
        :sys.get_state(pid)
        assert_clean()
      end
    end

    test "of 0 is no time for a start", context do
      registry = registry(context)
      assert {:timeout, _} = catch_exit(run(registry, :id, &self/0, timeout: 0))
      assert_clean()
    end

    test "may be :infinity", context do
      registry = registry(context)
      assert run(registry, :id, fn -> :reply end, timeout: :infinity) == :reply
    end
  end

  describe "a registry" do
    test "that never ran raises at once" do
      for name <- [__MODULE__.NeverRan, nil, {__MODULE__.NeverRan, node()}],
          call <- [&GenRegistry.call/4, &GenRegistry.cast/4] do
        assert_raise ArgumentError, ~r/unknown registry/, fn ->
          call.(name, :id, :request, timeout: :infinity)
        end
      end
    end

    test "that ended in order does too, until it runs again", context do
      registry = registry(context)

      for _ <- 1..2 do
        assert run(registry, :id, fn -> :reply end) == :reply
        end_registry(registry)

        for server <- [registry, {registry, node()}] do
          assert_raise ArgumentError, ~r/unknown registry/, fn ->
            run(server, :id, &self/0, timeout: :infinity)
          end
        end

        {:ok, _} = begin_registry(registry)
      end
    end

    test "that is a pid exits when it has ended", context do
      registry = registry(context)
      server = Process.whereis(registry)
      kill(server)

      assert {:noproc, {GenRegistry, :call, [^server | _]}} =
               catch_exit(run(server, :id, &self/0))

      assert {:noproc, {GenRegistry, :cast, [^server | _]}} =
               catch_exit(GenRegistry.cast(server, :id, :message))
    end

    for {how, end_it} <- [
          {"was killed", quote(do: &kill/1)},
          {"crashed", quote(do: &:sys.terminate(&1, :crash, :infinity))}
        ] do
      test "that #{how} is waited for, as long as the timeout allows", context do
        registry = registry(context)
        supervisor = Process.whereis(Module.concat(registry, Supervisor))
        assert run(registry, :id, fn -> :reply end) == :reply
        # So it is not started again yet.
        :sys.suspend(supervisor)
        unquote(end_it).(Process.whereis(registry))
        until(fn -> registry not in GenRegistry.registries() end)

        for call <- [&GenRegistry.call/4, &GenRegistry.cast/4] do
          assert {:timeout, {GenRegistry, _, _}} =
                   catch_exit(call.(registry, :id, {:run, &self/0}, timeout: 20))
        end

        test = self()
        opts = [args: [plain()], timeout: :infinity]

        for server <- [registry, {registry, node()}] do
          spawn_link(fn ->
            send(test, :waits)
            send(test, {:reply, GenRegistry.call(server, :id, {:run, &self/0}, opts)})
          end)

          assert_receive :waits
        end

        refute_received {:reply, _}
        :sys.resume(supervisor)
        assert_receive {:reply, pid}
        assert_receive {:reply, ^pid}
        assert_clean()
      end
    end

    test "that is killed during a start starts it again when it is there again", context do
      registry = registry(context, worker_shutdown: :brutal_kill)
      last = Process.whereis(registry)
      args = [held(:init)]
      call = ask(fn -> GenRegistry.call(registry, :id, {:run, &self/0}, args: args) end)
      first = reached(:init)
      kill(last)
      go(first)
      go(reached(:init))
      pid = answer(call)
      assert pid != first
      assert {:ok, ^pid} = GenRegistry.lookup(registry, :id)
    end

    test "that ends in order during a start fails that", context do
      registry = registry(context)
      args = [held(:init)]
      call = ask(fn -> GenRegistry.call(registry, :id, {:run, &self/0}, args: args) end)
      cast = ask(fn -> GenRegistry.cast(registry, :id, :message, args: args) end)
      reached(:init)
      end_registry(registry)
      assert {:exit, {{:start_failed, :shutdown}, {GenRegistry, :call, _}}} = answer(call)
      assert answer(cast) == {:error, :shutdown}
    end
  end

  describe "cast/4" do
    test "sends to the process of an id, started if there is none", context do
      registry = registry(context)
      test = self()

      for server <- [registry, Process.whereis(registry), {registry, node()}] do
        message = {:run, fn -> send(test, {:in, self()}) end}
        assert GenRegistry.cast(server, :id, message, args: [plain()]) == :ok
        assert_receive {:in, pid}
        assert GenRegistry.lookup(registry, :id) == {:ok, pid}
      end
    end

    test "returns the error of a start", context do
      registry = registry(context)

      assert GenRegistry.cast(registry, :id, :message, args: [fn -> {:stop, :no} end]) ==
               {:error, :no}
    end

    test "exits at the timeout of a start", context do
      registry = registry(context)
      opts = [args: [fn -> hang() end], timeout: 10]

      assert {:timeout, {GenRegistry, :cast, [^registry, :id, :message, ^opts]}} =
               catch_exit(GenRegistry.cast(registry, :id, :message, opts))
    end

    test "sends to nobody who is dead", context do
      registry = registry(context, worker_module: FunWorker)
      starts = :counters.new(1, [])
      test = self()

      start_link = fn ->
        :counters.add(starts, 1, 1)

        if :counters.get(starts, 1) < 3,
          do: {:ok, dead()},
          else: {:ok, spawn_link(fn -> receive(do: (message -> send(test, message))) end)}
      end

      assert GenRegistry.cast(registry, :id, :message, args: [start_link]) == :ok
      assert_receive {:"$gen_cast", :message}
    end
  end

  test "options are known, and have their values", context do
    registry = registry(context)

    for {opts, part} <- [
          {[arg: []], ":arg"},
          {[{:args, []}, :timeout], "keyword list"},
          {%{timeout: 1}, "keyword list"},
          {[args: :arg], "args"},
          {[args: [1 | 2]], "args"},
          {[timeout: -1], "timeout"},
          {[timeout: nil], "timeout"},
          {[timeout: 1.5], "timeout"}
        ],
        call <- [&GenRegistry.call/4, &GenRegistry.cast/4] do
      # Also where there is nothing to start.
      start!(registry, opts)
      error = assert_raise ArgumentError, fn -> call.(registry, opts, :request, opts) end
      assert error.message =~ part
      GenRegistry.stop(registry, opts)
    end
  end

  test "a registry on another node has its own processes, which are called from here" do
    {there, here} = OtherVM.start_two()

    OtherVM.eval(
      there,
      quote do
        :logger.set_primary_config(:level, :none)
        options = [strategy: :one_for_one, name: RSupervisor]

        {:ok, supervisor} =
          Supervisor.start_link([{GenRegistry, worker_module: RequestWorker, name: R}], options)

        Process.unlink(supervisor)
      end
    )

    assert OtherVM.eval(
             here,
             quote do
               there = :"there@127.0.0.1"
               true = Node.connect(there)
               registry = :erpc.call(there, Process, :whereis, [R])

               # Each reaches the same process.
               {pid, 1} = GenRegistry.call({R, there}, :id, :count)
               {^pid, 2} = GenRegistry.call(registry, :id, :count)
               :ok = GenRegistry.cast({R, there}, :id, :count)
               {^pid, 4} = GenRegistry.call({R, there}, :id, :count)
               ^there = node(pid)

               exit_reason = fn server, request, timeout ->
                 try do
                   GenRegistry.call(server, :id, request, timeout: timeout)
                 catch
                   :exit, {reason, {GenRegistry, :call, [^server, :id, ^request, _]}} -> reason
                 end
               end

               # It is handled once, whatever it ends with.
               for reason <- [:normal, :noproc, :killed] do
                 ^reason = exit_reason.({R, there}, {:exit, reason, self()}, 5_000)
                 receive(do: ({:handled, ^reason} -> :ok))
               end

               # The next one is asked.
               {pid, 1} = GenRegistry.call({R, there}, :id, :count)
               :sys.suspend(pid)
               test = self()
               call = fn -> send(test, GenRegistry.call({R, there}, :id, :count)) end
               caller = spawn_link(call)

               RequestWorker.until(fn ->
                 {:monitored_by, watchers} =
                   :erpc.call(there, Process, :info, [pid, :monitored_by])

                 caller in watchers
               end)

               :sys.terminate(pid, {:shutdown, :idle}, :infinity)
               {next, 1} = receive(do: ({_, _} = reply -> reply))
               false = next == pid

               # Killed, it is waited for.
               :sys.suspend({RSupervisor, there})
               Process.exit(registry, :kill)

               RequestWorker.until(fn ->
                 R not in :erpc.call(there, GenRegistry, :registries, [])
               end)

               :timeout = exit_reason.({R, there}, :count, 20)
               spawn_link(call)
               :sys.resume({RSupervisor, there})
               {_, 1} = receive(do: ({_, _} = reply -> reply))

               {:messages, []} = Process.info(self(), :messages)
               {:monitors, []} = Process.info(self(), :monitors)

               {exit_reason.({:nobody, there}, :count, 5_000),
                exit_reason.({R, :"nowhere@127.0.0.1"}, :count, 5_000)}
             end
           ) == {:noproc, {:nodedown, :"nowhere@127.0.0.1"}}
  end
end
