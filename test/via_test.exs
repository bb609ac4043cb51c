defmodule GenRegistry.ViaTest do
  @moduledoc """
  `{:via, GenRegistry, {registry, id}}` as a name, for processes that the registry started, and for
  guests: those that run elsewhere and take an id.
  """

  use ExUnit.Case, async: true

  alias GenRegistry.Table

  import Lifecycle, except: [registry: 1]

  @moduletag :capture_log

  defmodule Statem do
    @behaviour :gen_statem
    @impl true
    def callback_mode, do: :handle_event_function
    @impl true
    def init(state), do: {:ok, state, nil}
    @impl true
    def handle_event({:call, from}, :state, state, _),
      do: {:keep_state_and_data, [{:reply, from, state}]}
  end

  defmodule Events do
    @behaviour :gen_event
    @impl true
    def init(test), do: {:ok, test}
    @impl true
    def handle_event(event, test), do: {:ok, send(test, event) && test}
    @impl true
    def handle_call(:test, test), do: {:ok, test, test}
  end

  # A worker that has its id as its name, as users write it. `init` is as of `LifecycleWorker`.
  defmodule Named do
    def start_link(registry, id, init) do
      GenServer.start_link(LifecycleWorker, init, name: {:via, GenRegistry, {registry, id}})
    end
  end

  # The test's own one. Few have to be waited for, but those that are must not be killed for it.
  defp registry(context) do
    opts = Map.take(context, [:worker_module, :worker_shutdown, :max_children])
    opts = Map.merge(%{worker_shutdown: 50, max_starting: 1}, opts)
    [registry: Lifecycle.registry(context, Map.to_list(opts))]
  end

  defp via(registry, id), do: {:via, GenRegistry, {registry, id}}

  # A process of the test's own, under a supervisor.
  defp agent(opts \\ []) do
    start = {Agent, :start_link, [fn -> :state end, opts]}
    start_supervised!(%{id: make_ref(), start: start, restart: :temporary})
  end

  defp guest(registry, id), do: agent(name: via(registry, id))

  # What a start of a process answers that takes its name in its own time, as of `answer/1`.
  defp ask_name(registry, id) do
    ask(fn -> GenServer.start(LifecycleWorker, plain(), name: via(registry, id)) end)
  end

  describe "stock modules" do
    setup :registry

    test "GenServer", %{registry: registry} do
      name = via(registry, :id)
      {:ok, pid} = GenServer.start_link(LifecycleWorker, plain(), name: name)
      assert GenServer.whereis(name) == pid
      assert GenServer.call(name, {:run, fn -> self() end}) == pid
      test = self()
      assert GenServer.cast(name, {:run, fn -> send(test, {:cast, self()}) end}) == :ok
      assert_receive {:cast, ^pid}

      assert {:error, {:already_started, ^pid}} =
               GenServer.start_link(LifecycleWorker, plain(), name: name)

      assert GenRegistry.lookup(registry, :id) == {:ok, pid}
    end

    test "GenServer, where there is none", %{registry: registry} do
      name = via(registry, :id)
      assert GenServer.whereis(name) == nil

      assert catch_exit(GenServer.call(name, :anything)) ==
               {:noproc, {GenServer, :call, [name, :anything, 5_000]}}

      assert GenServer.cast(name, :anything) == :ok
      assert {:noproc, _} = catch_exit(GenServer.stop(name))
    end

    test "GenServer, stopped by its name", %{registry: registry} do
      {:ok, pid} = GenServer.start_link(LifecycleWorker, plain(), name: via(registry, :id))
      monitor = registry |> via(:id) |> GenServer.whereis() |> watch()
      assert GenServer.stop(via(registry, :id)) == :ok
      assert ended(pid, monitor) == :normal
      assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
    end

    test "GenServer, whose init fails", %{registry: registry} do
      Process.flag(:trap_exit, true)

      for {answer, init} <- [
            {:ignore, fn -> :ignore end},
            {{:error, :failed}, fn -> {:stop, :failed} end},
            {{:error, :failed}, fn -> exit(:failed) end}
          ] do
        start = fn -> GenServer.start_link(LifecycleWorker, init, name: via(registry, :id)) end
        assert start.() == answer
        assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
        assert GenRegistry.count(registry) == 0
      end
    end

    test "Agent", %{registry: registry} do
      name = via(registry, "id")
      {:ok, agent} = Agent.start_link(fn -> 1 end, name: name)
      assert Agent.update(name, &(&1 + 1)) == :ok
      assert Agent.get(name, &{&1, self()}) == {2, agent}
      assert Agent.stop(name) == :ok
      refute Process.alive?(agent)
    end

    test "Task.Supervisor", %{registry: registry} do
      name = via(registry, {:tasks, 1})
      start_supervised!({Task.Supervisor, name: name})
      task = Task.Supervisor.async(name, fn -> Process.get(:"$ancestors") |> hd() end)
      # As OTP has it, children know their supervisor by its name.
      assert Task.await(task) in [name, {registry, {:tasks, 1}}, GenServer.whereis(name)]
    end

    test "a Task that takes a name itself", %{registry: registry} do
      test = self()

      {:ok, task} =
        Task.start_link(fn ->
          send(test, {:took, GenRegistry.register_name({registry, :task}, self())})
          hang()
        end)

      assert_receive {:took, :yes}
      assert GenRegistry.whereis_name({registry, :task}) == task
    end

    test "Supervisor and DynamicSupervisor", %{registry: registry} do
      children = [
        {DynamicSupervisor, name: via(registry, :dynamic)},
        {Agent, fn -> 1 end}
      ]

      start_supervised!(%{
        id: :supervisor,
        start:
          {Supervisor, :start_link,
           [children, [strategy: :one_for_one, name: via(registry, :static)]]}
      })

      assert Supervisor.count_children(via(registry, :static)).active == 2
      {:ok, child} = DynamicSupervisor.start_child(via(registry, :dynamic), {Agent, fn -> 2 end})
      assert Agent.get(child, & &1) == 2

      # Killed, it is started again, and has its name again.
      {:ok, dynamic} = GenRegistry.lookup(registry, :dynamic)
      kill(dynamic)
      until(fn -> GenRegistry.whereis_name({registry, :dynamic}) not in [:undefined, dynamic] end)
      assert DynamicSupervisor.count_children(via(registry, :dynamic)).active == 0
    end

    test ":gen_statem", %{registry: registry} do
      name = via(registry, 1)
      {:ok, pid} = :gen_statem.start_link(name, Statem, :state, [])
      assert :gen_statem.call(name, :state) == :state
      assert {:error, {:already_started, ^pid}} = :gen_statem.start_link(name, Statem, :state, [])
      assert :gen_statem.stop(name) == :ok
    end

    test ":gen_event", %{registry: registry} do
      name = via(registry, 1.0)
      {:ok, _} = :gen_event.start_link(name)
      :ok = :gen_event.add_handler(name, Events, self())
      :ok = :gen_event.sync_notify(name, :event)
      assert_receive :event
      assert :gen_event.call(name, Events, :test) == self()
      assert :gen_event.stop(name) == :ok
    end

    test "they reach a worker of the registry", %{registry: registry} do
      worker = start!(registry, :worker)
      assert LifecycleWorker.run(via(registry, :worker), fn -> self() end) == worker
      start = GenServer.start(LifecycleWorker, plain(), name: via(registry, :worker))
      assert start == {:error, {:already_started, worker}}
    end

    test "they never reach a dead one", %{registry: registry} do
      while_undone(300_000, fn rows ->
        {:ok, pid} = GenServer.start(LifecycleWorker, plain(), name: via(registry, rows))
        LifecycleWorker.run(pid, fn -> own_large_table(rows) end)
        monitor = strike(pid)
        found = GenRegistry.whereis_name({registry, rows})
        {:ok, other} = GenServer.start(LifecycleWorker, plain(), name: via(registry, rows))
        undone = being_undone?(monitor)
        assert found == :undefined
        assert GenRegistry.lookup(registry, rows) == {:ok, other}
        if undone, do: down_of(monitor)
        assert GenRegistry.lookup(registry, rows) == {:ok, other}
        undone
      end)
    end
  end

  describe "a guest" do
    setup :registry

    test "is found, counted and listed", %{registry: registry} do
      worker = start!(registry, :worker)
      guest = guest(registry, :guest)
      assert GenRegistry.lookup(registry, :guest) == {:ok, guest}
      assert GenRegistry.count(registry) == 2

      assert Enum.sort(GenRegistry.to_list(registry)) ==
               Enum.sort([{:guest, guest}, {:worker, worker}])

      :ok = GenRegistry.stop(registry, :worker)
      assert GenRegistry.sample(registry) == {:guest, guest}
      assert GenRegistry.reduce(registry, [], &[&1 | &2]) == [{:guest, guest}]
    end

    test "is known by its pid while it has an id", %{registry: registry} do
      assert GenRegistry.register_name({registry, :guest}, self()) == :yes
      assert GenRegistry.lookup_id(registry, self()) == {:ok, :guest}
      assert GenRegistry.lookup_many(registry, [:none, :guest]) == [guest: self()]
      :ok = GenRegistry.unregister_name({registry, :guest})
      assert GenRegistry.lookup_id(registry, self()) == {:error, :not_found}
      assert GenRegistry.register_name({registry, :other}, self()) == :yes
      assert GenRegistry.lookup_id(registry, self()) == {:ok, :other}
    end

    test "is what the id's callers get", %{registry: registry} do
      guest = guest(registry, :guest)
      assert GenRegistry.lookup_or_start(registry, :guest, [plain()]) == {:ok, guest}
      assert GenRegistry.start(registry, :guest) == {:error, {:already_started, guest}}
      server = Process.whereis(registry)
      assert GenRegistry.lookup_or_start(server, :guest, [plain()]) == {:ok, guest}
      assert GenRegistry.start(server, :guest) == {:error, {:already_started, guest}}
    end

    test "is forgotten when it ends", %{registry: registry} do
      guest = guest(registry, :guest)
      kill(guest)
      assert GenRegistry.lookup(registry, :guest) == {:error, :not_found}
      assert GenRegistry.count(registry) == 0
      assert Process.alive?(start!(registry, :guest))
    end

    test "is not stopped", %{registry: registry} do
      guest = guest(registry, :guest)
      assert GenRegistry.stop(registry, :guest) == {:error, :not_supervised}
      assert GenRegistry.lookup(registry, :guest) == {:ok, guest}
      assert Agent.get(guest, & &1) == :state
      # Many at once, by the guest itself too.
      for _ <- 1..20, do: ask(fn -> GenRegistry.stop(registry, :guest) end)
      stop_itself = fn _ -> GenRegistry.stop(registry, :guest) end
      assert Agent.get(guest, stop_itself) == {:error, :not_supervised}
    end

    test "is no child of the registry", %{registry: registry} do
      guest(registry, :guest)
      supervisor = via(registry, :supervisor)
      start_supervised!({DynamicSupervisor, name: supervisor})
      assert Supervisor.which_children(registry) == []
      none = %{active: 0, specs: 0, supervisors: 0, workers: 0}
      assert Supervisor.count_children(registry) == none

      worker = start!(registry, :worker)
      expected = [{:worker, worker, :worker, [LifecycleWorker]}]
      assert Supervisor.which_children(registry) == expected
      # Whatever kind the guests are of.
      for _ <- 1..50 do
        one = %{active: 1, specs: 1, supervisors: 0, workers: 1}
        assert Supervisor.count_children(registry) == one
      end
    end

    test "may be another process than the caller", %{registry: registry} do
      agent = agent()
      assert GenRegistry.register_name({registry, :agent}, agent) == :yes
      assert Agent.get(via(registry, :agent), & &1) == :state
    end

    test "has one id", %{registry: registry} do
      assert GenRegistry.register_name({registry, :one}, self()) == :yes
      assert GenRegistry.register_name({registry, :one}, self()) == :no
      assert GenRegistry.register_name({registry, :two}, self()) == :no
      assert GenRegistry.lookup(registry, :two) == {:error, :not_found}
      assert GenRegistry.count(registry) == 1
    end

    test "has one id in each registry", %{registry: registry} = context do
      [registry: other] = registry(%{context | test: :other})
      assert GenRegistry.register_name({registry, :one}, self()) == :yes
      assert GenRegistry.register_name({other, :two}, self()) == :yes
      assert GenRegistry.whereis_name({other, :two}) == self()
    end

    test "has an id that nobody has", %{registry: registry} do
      worker = start!(registry, :worker)
      agent = guest(registry, :guest)
      assert GenRegistry.register_name({registry, :worker}, self()) == :no
      assert GenRegistry.register_name({registry, :guest}, self()) == :no
      assert GenRegistry.lookup(registry, :worker) == {:ok, worker}
      assert GenRegistry.lookup(registry, :guest) == {:ok, agent}
    end

    test "is none of the registry's own workers", %{registry: registry} do
      worker = start!(registry, :worker)
      assert GenRegistry.register_name({registry, :other}, worker) == :no
      itself = fn -> GenRegistry.register_name({registry, :other}, self()) end
      assert LifecycleWorker.run(worker, itself) == :no
      assert GenRegistry.lookup(registry, :other) == {:error, :not_found}
    end

    test "is alive", %{registry: registry} do
      agent = agent()
      kill(agent)
      assert GenRegistry.register_name({registry, :id}, agent) == :no
      assert GenRegistry.count(registry) == 0
    end

    @tag max_children: 1
    test "takes no room of children, while it is none", %{registry: registry} do
      guest(registry, :guest)
      guest(registry, :other)
      start!(registry, :worker)
      assert GenRegistry.start(registry, :id) == {:error, :max_children}
      end_registry(registry)
      begin_registry(registry)
      assert GenRegistry.count(registry) == 2
      start!(registry, :worker)
      assert GenRegistry.start(registry, :id) == {:error, :max_children}
      :ok = GenRegistry.stop(registry, :worker)
      assert Process.alive?(start!(registry, :id))
    end

    test "gives its id up", %{registry: registry} do
      agent = guest(registry, :id)
      # Whoever asks for it.
      assert GenRegistry.unregister_name({registry, :id}) == :ok
      assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
      assert GenRegistry.count(registry) == 0
      assert GenRegistry.unregister_name({registry, :id}) == :ok

      worker = start!(registry, :id)
      kill(agent)
      assert GenRegistry.lookup(registry, :id) == {:ok, worker}
    end

    test "gives up and takes ids as often as it likes", %{registry: registry} do
      for n <- 1..100 do
        assert GenRegistry.register_name({registry, n}, self()) == :yes
        assert GenRegistry.whereis_name({registry, n}) == self()
        assert GenRegistry.unregister_name({registry, n}) == :ok
      end

      # And is watched once.
      {:monitored_by, watchers} = Process.info(self(), :monitored_by)
      assert Enum.count(watchers, &is_reference/1) == 1

      agent = guest(registry, :first)
      :ok = GenRegistry.unregister_name({registry, :first})
      assert GenRegistry.register_name({registry, :second}, agent) == :yes
      kill(agent)
      assert GenRegistry.count(registry) == 0
    end

    test "alone is unregistered", %{registry: registry} do
      worker = start!(registry, :worker)
      assert GenRegistry.unregister_name({registry, :worker}) == :ok
      assert GenRegistry.lookup(registry, :worker) == {:ok, worker}
      itself = fn -> GenRegistry.unregister_name({registry, :worker}) end
      assert LifecycleWorker.run(worker, itself) == :ok
      assert GenRegistry.lookup(registry, :worker) == {:ok, worker}
      assert GenRegistry.stop(registry, :worker) == :ok
    end

    test "may have any id", %{registry: registry} do
      ids = [
        nil,
        "",
        {registry, :id},
        %{a: [1]},
        make_ref(),
        self(),
        String.duplicate("long", 50_000)
      ]

      for id <- ids do
        assert GenRegistry.register_name({registry, id}, self()) == :yes
        assert GenRegistry.whereis_name({registry, id}) == self()
        assert GenRegistry.stop(registry, id) == {:error, :not_supervised}
        assert GenRegistry.unregister_name({registry, id}) == :ok
      end
    end
  end

  describe "while others are about the id" do
    setup :registry

    test "a name is refused after a start", %{registry: registry} do
      starts = ask(:start, registry, :id, [held(:init)])
      init = reached(:init)
      named = ask_name(registry, :id)
      assert_waits(named, registry)
      go(init)
      assert answer(starts) == {:ok, init}
      assert answer(named) == {:error, {:already_started, init}}
    end

    test "a name is given after a failed start, and others have it", %{registry: registry} do
      starts = ask(:start, registry, :id, [held(:init, :ignore)])
      init = reached(:init)
      named = ask_name(registry, :id)
      assert_waits(named, registry)
      late = ask(:lookup_or_start, registry, :id, [plain()])
      later = ask(:start, registry, :id, [plain()])
      stop = ask(fn -> GenRegistry.stop(registry, :id) end)
      last = ask(:lookup_or_start, registry, :id, [plain()])
      again = ask_name(registry, :id)
      for asker <- [late, later, stop, last, again], do: assert_waits(asker, registry)
      go(init)
      assert answer(starts) == {:error, :ignore}
      {:ok, guest} = answer(named)
      assert answer(late) == {:ok, guest}
      assert answer(later) == {:error, {:already_started, guest}}
      assert answer(stop) == {:error, :not_supervised}
      assert answer(last) == {:ok, guest}
      assert answer(again) == {:error, {:already_started, guest}}
      assert GenRegistry.to_list(registry) == [{:id, guest}]
    end

    @tag worker_shutdown: :infinity
    test "a name is given when the old worker is gone", %{registry: registry} do
      worker = start!(registry, :id, held_at_end(:at_end))
      stop = ask(fn -> GenRegistry.stop(registry, :id) end)
      assert reached({:at_end, :shutdown}) == worker
      named = ask_name(registry, :id)
      assert_waits(named, registry)
      assert GenRegistry.whereis_name({registry, :id}) == :undefined
      go(worker)
      assert answer(stop) == :ok
      {:ok, guest} = answer(named)
      refute Process.alive?(worker)
      assert GenRegistry.whereis_name({registry, :id}) == guest
    end

    test "who died before its turn is given no name", %{registry: registry} do
      starts = ask(:start, registry, :id, [held(:init, :ignore)])
      init = reached(:init)
      named = ask_name(registry, :id)
      assert_waits(named, registry)
      kill(named.pid)
      # It was waiting for its own process, which goes on; that one is given it.
      agent = agent()
      asker = ask(fn -> GenRegistry.register_name({registry, :id}, agent) end)
      assert_waits(asker, registry)
      kill(asker.pid)
      go(init)
      assert answer(starts) == {:error, :ignore}
      until(fn -> GenRegistry.whereis_name({registry, :id}) != :undefined end)
      refute GenRegistry.whereis_name({registry, :id}) == agent
    end

    test "ids do not wait for each other", %{registry: registry} do
      ask(:start, registry, :id, [held(:init)])
      reached(:init)
      # There is no place for a start.
      {:ok, guest} = GenServer.start(LifecycleWorker, plain(), name: via(registry, :other))
      assert GenRegistry.whereis_name({registry, :other}) == guest
    end

    test "a starter's death frees the name", %{registry: registry} do
      starts = ask(:start, registry, :id, [held(:init)])
      init = reached(:init)
      named = ask_name(registry, :id)
      assert_waits(named, registry)
      starter = starter(init)
      kill(starter)
      assert answer(starts) == {:error, {:starter_died, :killed}}
      {:ok, guest} = answer(named)
      refute Process.alive?(init)
      assert GenRegistry.whereis_name({registry, :id}) == guest
    end
  end

  describe "a worker that takes the name of its id" do
    @describetag worker_module: Named
    setup :registry

    test "is a worker", %{registry: registry} do
      {:ok, pid} = GenRegistry.lookup_or_start(registry, :id, [registry, :id, plain()])
      assert LifecycleWorker.run(via(registry, :id), fn -> self() end) == pid
      assert GenRegistry.to_list(registry) == [{:id, pid}]
      assert Supervisor.which_children(registry) == [{:id, pid, :worker, [Named]}]
      assert Supervisor.count_children(registry).active == 1
      assert GenRegistry.unregister_name({registry, :id}) == :ok
      assert GenRegistry.stop(registry, :id) == :ok
      refute Process.alive?(pid)
      assert GenRegistry.count(registry) == 0
    end

    @tag max_children: 1
    test "takes the room of one", %{registry: registry} do
      {:ok, _} = GenRegistry.start(registry, :id, [registry, :id, plain()])
      start = fn -> GenRegistry.start(registry, :other, [registry, :other, plain()]) end
      assert start.() == {:error, :max_children}
      :ok = GenRegistry.stop(registry, :id)

      assert {:error, :failed} =
               GenRegistry.start(registry, :id, [registry, :id, fn -> {:stop, :failed} end])

      assert {:ok, _} = start.()
    end

    test "is told at once", %{registry: registry} do
      # Whom nobody has to ask what it is: that would be done after some milliseconds.
      assert_in_time(2_000, fn ->
        timed(fn ->
          for _ <- 1..1_000, id = make_ref() do
            {:ok, _} = GenRegistry.start(registry, id, [registry, id, plain()])
          end
        end)
      end)
    end

    test "is found before the end of its init, and not stopped", %{registry: registry} do
      starts = ask(:start, registry, :id, [registry, :id, held(:init)])
      init = reached(:init)
      assert GenRegistry.whereis_name({registry, :id}) == init
      assert GenRegistry.lookup_or_start(registry, :id) == {:ok, init}
      stop = ask(fn -> GenRegistry.stop(registry, :id) end)
      assert_waits(stop, registry)
      go(init)
      assert answer(starts) == {:ok, init}
      assert answer(stop) == :ok
      refute Process.alive?(init)
    end

    test "leaves the id when its init fails", %{registry: registry} do
      for {init, reason} <- [
            {fn -> {:stop, :failed} end, :failed},
            {fn -> exit(:failed) end, :failed},
            {fn -> :ignore end, :ignore}
          ] do
        start = GenRegistry.start(registry, :id, [registry, :id, init])
        assert start == {:error, reason}
        assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
      end

      # Others' starts are tried.
      first = ask(:start, registry, :id, [registry, :id, held(:init, {:stop, :failed})])
      init = reached(:init)
      # Else others would find it, and not wait for the end of its start.
      GenRegistry.unregister_name({registry, :id})
      second = ask(:start, registry, :id, [registry, :id, plain()])
      assert_waits(second, registry)
      go(init)
      assert answer(first) == {:error, :failed}
      {:ok, pid} = answer(second)
      assert GenRegistry.lookup(registry, :id) == {:ok, pid}
    end

    test "may start others in its init", %{registry: registry} do
      start_other = fn ->
        {:ok, other} = GenRegistry.lookup_or_start(registry, :other, [registry, :other, plain()])
        {:ok, fn _ -> other end}
      end

      assert {:ok, _} = GenRegistry.start(registry, :id, [registry, :id, start_other], :infinity)
      assert GenRegistry.count(registry) == 2
    end

    test "may stop itself in its init", %{registry: registry} do
      stop = fn -> {GenRegistry.stop(registry, :id), nil} end
      {:ok, pid} = GenRegistry.start(registry, :id, [registry, :id, stop], :infinity)
      down(pid)
      until(fn -> GenRegistry.count(registry) == 0 end)
    end

    @tag worker_shutdown: :infinity
    test "ends with its starter in its init", %{registry: registry} do
      test = self()

      trapping = fn ->
        Process.flag(:trap_exit, true)
        wait(test, :init)
        {:ok, nil}
      end

      starts = ask(:start, registry, :id, [registry, :id, trapping])
      init = reached(:init)
      kill(starter(init))
      assert answer(starts) == {:error, {:starter_died, :killed}}
      # The next one waits for that.
      next = ask(fn -> GenRegistry.stop(registry, :id) end)
      assert_waits(next, registry)
      assert Process.alive?(init)
      kill(init)
      assert answer(next) in [:ok, {:error, :not_found}]
      assert GenRegistry.count(registry) == 0
    end

    test "ends with the registry", %{registry: registry} do
      {:ok, pid} = GenRegistry.start(registry, :id, [registry, :id, plain()])
      starts = ask(:start, registry, :other, [registry, :other, held(:init)])
      init = reached(:init)
      last = Process.whereis(registry)
      monitor = watch(pid)
      kill(last)
      restarted(registry, last)
      assert {:exit, _} = answer(starts)
      # It is no guest: its start goes on, and the next one waits for that.
      assert GenRegistry.to_list(registry) == []
      next = ask(:start, registry, :other, [registry, :other, plain()])
      assert_waits(next, registry)
      assert Process.alive?(init)
      go(init)
      assert {:ok, worker} = answer(next)
      refute Process.alive?(init)
      assert down_of(monitor) == :shutdown
      assert GenRegistry.to_list(registry) == [other: worker]
    end
  end

  describe "a start in which the id is taken" do
    @describetag worker_module: FunWorker
    setup :registry

    test "by a plain process, the worker", %{registry: registry} do
      start = fn ->
        starter = self()

        pid =
          spawn_link(fn ->
            send(starter, {self(), GenRegistry.register_name({registry, :id}, self())})
            hang()
          end)

        receive do: ({^pid, :yes} -> {:ok, pid})
      end

      {:ok, pid} = GenRegistry.start(registry, :id, [start], :infinity)
      assert GenRegistry.lookup(registry, :id) == {:ok, pid}
      assert GenRegistry.stop(registry, :id) == :ok
    end

    test "by the start itself", %{registry: registry} do
      start = fn ->
        {:ok, pid} = Agent.start_link(fn -> nil end)
        :yes = GenRegistry.register_name({registry, :id}, pid)
        {:ok, pid}
      end

      {:ok, pid} = GenRegistry.start(registry, :id, [start], :infinity)
      assert Supervisor.which_children(registry) == [{:id, pid, :worker, [FunWorker]}]
    end

    test "by a child of the worker", %{registry: registry} do
      start = fn ->
        child = %{
          id: :child,
          start: {Agent, :start_link, [fn -> nil end, [name: via(registry, :id)]]}
        }

        Supervisor.start_link([child], strategy: :one_for_one)
      end

      assert {:error, {:already_started, child}} =
               GenRegistry.start(registry, :id, [start], :infinity)

      down(child)
      assert GenRegistry.lookup(registry, :id) == {:error, :not_found}
    end

    test "under another id, which it keeps", %{registry: registry} do
      start = fn -> Agent.start_link(fn -> nil end, name: via(registry, :other)) end
      assert {:error, {:already_registered, pid}} = GenRegistry.start(registry, :id, [start])
      assert GenRegistry.to_list(registry) == [{:other, pid}]
      assert GenRegistry.stop(registry, :other) == {:error, :not_supervised}
    end

    test "by a start that answers another id's worker, which is left alone", context do
      %{registry: registry} = context

      {:ok, worker} =
        GenRegistry.start(registry, :other, [fn -> Agent.start_link(fn -> 1 end) end])

      start = fn ->
        {:ok, _} = Agent.start(fn -> nil end, name: via(registry, :id))
        {:ok, worker}
      end

      assert {:error, {:already_started, guest}} = GenRegistry.start(registry, :id, [start])
      assert guest != worker
      assert Agent.get(worker, & &1) == 1
      assert GenRegistry.lookup(registry, :other) == {:ok, worker}
    end

    test "by a start that answers a guest of another id, which is left alone", context do
      %{registry: registry} = context
      {:ok, other} = Agent.start_link(fn -> 1 end, name: via(registry, :other))

      start = fn ->
        {:ok, _} = Agent.start(fn -> nil end, name: via(registry, :id))
        {:ok, other}
      end

      assert {:error, {:already_started, guest}} = GenRegistry.start(registry, :id, [start])
      assert guest != other
      assert Agent.get(other, & &1) == 1
      assert GenRegistry.lookup(registry, :other) == {:ok, other}
      # Nobody's worker still.
      assert GenRegistry.stop(registry, :other) == {:error, :not_supervised}
    end

    test "by what a failed start leaves", %{registry: registry} do
      test = self()

      leave = fn ->
        wait(test, :begun)
        {:ok, pid} = Agent.start(fn -> nil end, name: via(registry, :id))
        {:error, {:left, pid}}
      end

      second = fn ->
        send(test, :started)
        :ignore
      end

      first = ask(:start, registry, :id, [leave])
      starter = reached(:begun)
      second = ask(:start, registry, :id, [second])
      stop = ask(fn -> GenRegistry.stop(registry, :id) end)
      for asker <- [second, stop], do: assert_waits(asker, registry)
      go(starter)
      {:error, {:left, pid}} = answer(first)
      assert answer(second) == {:error, {:already_started, pid}}
      assert answer(stop) == {:error, :not_supervised}
      refute_received :started
      assert GenRegistry.lookup(registry, :id) == {:ok, pid}
      Agent.stop(pid)
    end
  end

  describe "when the registry ends, a guest" do
    setup :registry

    test "goes on, and has its id in the next one", %{registry: registry} do
      worker = start!(registry, :worker)
      guest = guest(registry, :guest)
      stubborn = GenServer.start(LifecycleWorker, stubborn(), name: via(registry, :stubborn))
      {:ok, stubborn} = stubborn

      for n <- 1..3 do
        # Nothing is waited for: it has no end of its own.
        end_registry(registry)
        refute Process.alive?(worker)
        assert Agent.get(guest, & &1) == :state

        assert_raise ArgumentError, ~r/unknown registry/, fn ->
          GenRegistry.lookup(registry, :guest)
        end

        assert_raise ArgumentError, ~r/unknown registry/, fn ->
          GenServer.call(via(registry, :guest), :x)
        end

        begin_registry(registry)
        assert GenRegistry.lookup(registry, :guest) == {:ok, guest}
        assert GenRegistry.lookup(registry, :worker) == {:error, :not_found}
        assert GenRegistry.count(registry) == 2
        assert Supervisor.count_children(registry).active == 0
        assert GenRegistry.stop(registry, :guest) == {:error, :not_supervised}
        assert GenRegistry.start(registry, :guest) == {:error, {:already_started, guest}}
        assert {:ok, _} = GenRegistry.start(registry, n, [plain()])
      end

      kill(guest)
      kill(stubborn)
      assert GenRegistry.to_list(registry) |> Enum.map(&elem(&1, 0)) == [3]
      assert {:ok, _} = GenRegistry.start(registry, :guest, [plain()])
    end

    test "goes on when that is killed, however often", %{registry: registry} do
      {:ok, guest} = GenServer.start(LifecycleWorker, plain(), name: via(registry, :guest))

      for _ <- 1..20 do
        last = Process.whereis(registry)
        worker = start!(registry, :worker)
        kill(last)
        restarted(registry, last)
        down(worker)
        assert GenRegistry.to_list(registry) == [{:guest, guest}]
        assert Supervisor.which_children(registry) == []
      end

      kill(guest)
      assert GenRegistry.count(registry) == 0
    end

    test "may give its id up, or end", %{registry: registry} do
      [given_up, ended, kept] = for id <- 1..3, do: guest(registry, id)
      end_registry(registry)
      assert GenRegistry.unregister_name({registry, 1}) == :ok
      kill(ended)
      begin_registry(registry)
      assert GenRegistry.to_list(registry) == [{3, kept}]
      assert GenRegistry.register_name({registry, 2}, given_up) == :yes
      kill(given_up)
      assert GenRegistry.to_list(registry) == [{3, kept}]
    end

    test "is not found beside the dead, however late their news", %{registry: registry} do
      guest(registry, :guest)

      while_undone(300_000, fn rows ->
        worker = start!(registry, :worker)
        LifecycleWorker.run(worker, fn -> own_large_table(rows) end)
        last = Process.whereis(registry)
        monitor = strike(worker)
        kill(last)
        restarted(registry, last)
        found = {GenRegistry.lookup(registry, :worker), GenRegistry.count(registry)}
        undone = being_undone?(monitor)
        assert found == {{:error, :not_found}, 1}
        if undone, do: down_of(monitor)
        undone
      end)
    end

    test "is out of reach of what is left of the last one", %{registry: registry} do
      guest = guest(registry, :guest)
      table = :sys.get_state(registry).table
      end_registry(registry)
      begin_registry(registry)
      worker = start!(registry, :worker)
      late = agent()
      assert Table.register(table, :id, late, late) == :closed
      assert Table.retire(table, :worker) == :not_found
      Table.close(table)
      assert GenRegistry.whereis_name({registry, :id}) == :undefined
      assert Enum.sort(GenRegistry.to_list(registry)) == [guest: guest, worker: worker]
      assert Process.alive?(start!(registry, :id))
    end

    test "and all its like leave nothing behind", %{registry: registry} do
      agent = guest(registry, :guest)
      end_registry(registry)
      kill(agent)

      assert_raise ArgumentError, ~r/unknown registry/, fn ->
        GenRegistry.unregister_name({registry, :guest})
      end

      begin_registry(registry)
      assert GenRegistry.count(registry) == 0
    end

    test "that waits for its name exits", %{registry: registry} do
      ask(:start, registry, :id, [held(:init)])
      reached(:init)
      agent = agent()
      asker = ask(fn -> GenRegistry.register_name({registry, :id}, agent) end)
      assert_waits(asker, registry)
      last = Process.whereis(registry)
      kill(last)
      assert {:exit, {:killed, {GenServer, :call, _}}} = answer(asker)
      restarted(registry, last)
      assert GenRegistry.count(registry) == 0
    end
  end

  describe "bad names" do
    setup :registry

    test "are named", %{registry: registry} do
      for name <- [registry, {registry}, {registry, 1, 2}, {self(), :id}, {"registry", :id}, nil] do
        message = ~r/the name must be {registry, id}.*#{Regex.escape(inspect(name))}/
        assert_raise ArgumentError, message, fn -> GenRegistry.whereis_name(name) end
        assert_raise ArgumentError, message, fn -> GenRegistry.send(name, :message) end
        assert_raise ArgumentError, message, fn -> GenRegistry.register_name(name, self()) end
        assert_raise ArgumentError, message, fn -> GenRegistry.unregister_name(name) end
      end
    end

    test "say what is wrong with them, if they are nearly right", %{registry: registry} do
      for {name, part} <- [
            {{registry, :key, :value}, "and no value beside the id"},
            {{self(), :id}, "and not its pid"},
            {{{registry, node()}, :id}, "on this node"},
            {{:via, GenRegistry, {registry, :id}}, "without {:via, GenRegistry, _} around it"},
            {registry, "and an id"},
            {{registry}, "and an id"},
            {[registry, :id], "as a tuple"}
          ] do
        message = "the name must be {registry, id}, with the name of a registry"
        error = assert_raise ArgumentError, fn -> GenRegistry.whereis_name(name) end
        assert error.message =~ message
        assert error.message =~ part
        assert error.message =~ inspect(name)
      end

      assert_raise ArgumentError, ~r/no value beside the id/, fn ->
        GenServer.call({:via, GenRegistry, {registry, :key, :value}}, :request)
      end
    end

    test "of registries are named" do
      for registry <- [:"no such registry", nil, Process] do
        message = ~r/unknown registry: #{inspect(registry)}/
        name = {registry, :id}
        assert_raise ArgumentError, message, fn -> GenRegistry.whereis_name(name) end
        assert_raise ArgumentError, message, fn -> GenRegistry.send(name, :message) end
        assert_raise ArgumentError, message, fn -> GenRegistry.register_name(name, self()) end
        assert_raise ArgumentError, message, fn -> GenRegistry.unregister_name(name) end
        assert_raise ArgumentError, message, fn -> Agent.get(via(registry, :id), & &1) end
      end
    end

    test "so are those that are no processes, or of other nodes", %{registry: registry} do
      # As a process of a node would be that is called `other@host`.
      other = <<131, 88, 119, 10, "other@host", 0::32, 9::32, 0::32, 1::32>>

      for pid <- [:erlang.binary_to_term(other), :name, nil, {:via, GenRegistry, {registry, 1}}] do
        message = ~r/the process must be a pid of this node, got: #{Regex.escape(inspect(pid))}/

        assert_raise ArgumentError, message, fn ->
          GenRegistry.register_name({registry, :id}, pid)
        end
      end
    end

    test "in strangers' calls change nothing", %{registry: registry} do
      for message <- [{:register, :id, :name, nil}, {:register, :id}] do
        assert GenServer.call(registry, message) == {:error, :unknown_call}
      end

      # One that says it is being started.
      starts = ask(:start, registry, :id, [held(:init)])
      init = reached(:init)
      assert GenRegistry.register_name({registry, :other}, self()) == :yes
      lie = {:register, :id, self(), starter(init)}
      assert GenServer.call(registry, lie) == :no
      go(init)
      assert answer(starts) == {:ok, init}
    end
  end
end
