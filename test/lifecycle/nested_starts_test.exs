defmodule GenRegistry.NestedStartsTest do
  @moduledoc """
  What is asked for from inside a start, of any registry, does not wait for a place of `:max_starting`;
  what outlived its start waits as everybody does.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  # Users and guilds, which each have one place.
  setup context do
    users = registry(context, max_starting: 1)
    guilds = Module.concat(users, Guilds)

    start_supervised!(
      {GenRegistry, worker_module: LifecycleWorker, name: guilds, max_starting: 1}
    )

    tasks = start_supervised!(Task.Supervisor)
    {:ok, users: users, guilds: guilds, tasks: tasks}
  end

  # An init that starts another one, with this init.
  defp starting(registry, id, init) do
    fn ->
      {:ok, _} = GenRegistry.lookup_or_start(registry, id, [init], :infinity)
      {:ok, nil}
    end
  end

  test "users and guilds that ask for each other's in their inits all start", context do
    %{users: users, guilds: guilds} = context
    test = self()

    # A user's guild has an owner; a guild's owner has a home.
    for_user = starting(guilds, :guild, starting(users, :owner, plain()))
    for_guild = starting(users, :user, starting(guilds, :home, plain()))

    held = fn where, init ->
      fn ->
        wait(test, where)
        init.()
      end
    end

    user = ask(:start, users, 1, [held.(:user, for_user)])
    guild = ask(:start, guilds, 1, [held.(:guild, for_guild)])
    inits = [reached(:user), reached(:guild)]
    Enum.each(inits, &go/1)
    assert Enum.map([user, guild], &answer/1) == Enum.map(inits, &{:ok, &1})
    assert Enum.map([users, guilds], &GenRegistry.count/1) == [3, 3]
  end

  # The arguments of a start in which `ask` is called, and which waits for that.
  defp args(:start_link, ask, _tasks), do: in_start_link(ask)
  defp args(way, ask, tasks), do: in_init(fn -> call(way, ask, tasks) end)

  defp call(:init, ask, _tasks), do: ask.()
  defp call(:linked, ask, _tasks), do: await(&spawn_link/1, ask)
  defp call(:spawned, ask, _tasks), do: await(&spawn/1, ask)
  defp call(:spawned_twice, ask, tasks), do: await(&spawn/1, fn -> call(:spawned, ask, tasks) end)
  defp call(:task, ask, _tasks), do: ask |> Task.async() |> Task.await(:infinity)
  defp call(:task_twice, ask, tasks), do: call(:task, fn -> call(:task, ask, tasks) end, tasks)

  defp call(:supervised_task, ask, tasks),
    do: tasks |> Task.Supervisor.async(ask) |> Task.await(:infinity)

  defp call(:task_of_supervised_task, ask, tasks),
    do: call(:supervised_task, fn -> call(:task, ask, tasks) end, tasks)

  defp call(:task_without_link, ask, tasks),
    do: tasks |> Task.Supervisor.async_nolink(ask) |> Task.await(:infinity)

  defp call(:stream_of_tasks, ask, _tasks),
    do: [ask] |> Task.async_stream(& &1.(), timeout: :infinity) |> Enum.to_list()

  defp call(:stream_of_supervised_tasks, ask, tasks) do
    tasks
    |> Task.Supervisor.async_stream_nolink([ask], & &1.(), timeout: :infinity)
    |> Enum.to_list()
  end

  defp call(:agent, ask, _tasks), do: {:ok, _} = Agent.start_link(ask, timeout: :infinity)

  defp call(:agent_of_one_with_a_name, ask, tasks) do
    Process.register(self(), Module.concat(__MODULE__, Named))
    call(:agent, ask, tasks)
  end

  defp call(:server, ask, _tasks) do
    init = fn ->
      ask.()
      {:ok, nil}
    end

    {:ok, _} = GenServer.start_link(LifecycleWorker, init)
  end

  defp await(spawn, fun) do
    caller = self()
    ref = make_ref()
    spawn.(fn -> send(caller, {ref, fun.()}) end)
    receive do: ({^ref, result} -> result)
  end

  # Has the only place of a registry taken, as long as its init is not told to go on.
  defp take_place(registry) do
    taker = ask(:start, registry, :taker, [held(:taker)])
    {taker, reached(:taker)}
  end

  for way <-
        [:start_link, :init, :linked, :spawned, :spawned_twice, :task, :task_twice] ++
          [
            :supervised_task,
            :task_of_supervised_task,
            :task_without_link,
            :stream_of_tasks,
            :stream_of_supervised_tasks,
            :agent,
            :agent_of_one_with_a_name,
            :server
          ] do
    @way way

    test "one of the same registry (#{way})", %{users: users, tasks: tasks} do
      inner = fn -> {:ok, _} = GenRegistry.start(users, :inner, [plain()], :infinity) end
      assert {:ok, _} = answer(ask(:start, users, :outer, args(@way, inner, tasks)))
      assert GenRegistry.count(users) == 2
    end

    test "one of another registry (#{way})", %{users: users, guilds: guilds, tasks: tasks} do
      {taker, init} = take_place(guilds)
      inner = fn -> {:ok, _} = GenRegistry.start(guilds, :inner, [plain()], :infinity) end
      assert {:ok, _} = answer(ask(:start, users, :outer, args(@way, inner, tasks)))
      assert {:ok, _} = GenRegistry.lookup(guilds, :inner)
      go(init)
      assert answer(taker) == {:ok, init}
    end

    test "a stop of its own id is no wait for itself (#{way})", %{users: users, tasks: tasks} do
      test = self()
      stop = fn -> send(test, {:stopped, GenRegistry.stop(users, :own)}) end
      assert {:ok, worker} = answer(ask(:start, users, :own, args(@way, stop, tasks)))
      assert_receive {:stopped, :ok}
      down(worker)
    end
  end

  for way <- [:init, :linked, :spawned, :task, :supervised_task, :agent] do
    @way way
    test "its own id is given to its worker in its start (#{way})", context do
      %{users: users, tasks: tasks} = context
      test = self()

      init = fn ->
        worker = self()
        register = fn -> GenRegistry.register_name({users, :own}, worker) end
        call(@way, fn -> send(test, {:registered, register.()}) end, tasks)
        {:ok, nil}
      end

      assert {:ok, worker} = answer(ask(:start, users, :own, [init]))
      assert_receive {:registered, :yes}
      assert GenRegistry.lookup(users, :own) == {:ok, worker}
    end
  end

  test "the registry may be named by its pid, or with this node", %{users: users} do
    for called <- [users, Process.whereis(users), {users, node()}] do
      ask = fn -> GenRegistry.start(called, {:nested, called}, [plain()]) end
      {taker, place} = take_place(users)
      go(place)
      assert {:ok, _} = answer(taker)
      worker = ask(:start, users, {:worker, called}, [fn -> {:ok, ask.()} end])
      assert {:ok, _} = answer(worker)
      assert {:ok, _} = GenRegistry.lookup(users, {:nested, called})
      :ok = GenRegistry.stop(users, :taker)
    end
  end

  test "a worker that has taken its own id asks for another in its start", %{users: users} do
    init = fn ->
      :yes = GenRegistry.register_name({users, :own}, self())
      {:ok, _} = GenRegistry.start(users, :inner, [plain()], :infinity)
      {:ok, nil}
    end

    assert {:ok, _} = answer(ask(:start, users, :own, [init]))
    assert GenRegistry.count(users) == 2
  end

  describe "is held to the bound, whatever its starter does now:" do
    # Has the starter that `start` has used start another worker, and `process` ask meanwhile.
    defp assert_held_to_the_bound(users, worker, process) do
      {taker, init} = take_place(users)
      assert starter(init) == worker
      asker = %{ref: make_ref(), pid: process}
      test = self()
      send(process, {:ask, fn -> send(test, {asker.ref, start!(users, :late)}) end})
      await_call(process)
      assert_waits(asker, users)
      assert %{starting: 1, queued: 1} = GenRegistry.info(users)
      go(init)
      assert answer(taker) == {:ok, init}
      assert is_pid(answer(asker))
    end

    # What runs one function that it is sent.
    defp helper, do: receive(do: ({:ask, fun} -> fun.()))

    test "a process that a start_link left behind", %{users: users} do
      test = self()

      start_link = fn ->
        send(test, {:helper, spawn(&helper/0)})
        LifecycleWorker.start_link(plain())
      end

      {:ok, worker} = GenRegistry.start(users, :first, [:answer, start_link])
      assert_held_to_the_bound(users, starter(worker), reached(:helper))
    end

    test "a worker that runs", %{users: users} do
      test = self()

      start_link = fn ->
        tells = fn ->
          send(test, {:worker, self()})
          helper()
        end

        {:ok, :proc_lib.spawn_link(tells)}
      end

      {:ok, worker} = GenRegistry.start(users, :first, [:answer, start_link])
      assert reached(:worker) == worker
      assert_held_to_the_bound(users, starter(worker), worker)
    end

    # Helpers with and without `$ancestors`, and a task with `$callers`.
    for {what, spawn} <- [
          spawned: quote(do: &spawn_link/1),
          with_ancestors: quote(do: &:proc_lib.spawn_link/1),
          task: quote(do: fn fun -> Task.async(fun).pid end)
        ],
        life <- [:runs, :died] do
      test "a helper that a worker's init spawned, and the worker #{life} (#{what})", context do
        %{users: users} = context
        test = self()

        init = fn ->
          helper = unquote(spawn).(&helper/0)
          if unquote(life == :died), do: Process.unlink(helper)
          send(test, {:helper, helper})
          {:ok, nil}
        end

        worker = start!(users, :first, init)
        starter = starter(worker)
        if unquote(life == :died), do: kill(worker)
        assert_held_to_the_bound(users, starter, reached(:helper))
      end
    end
  end
end
