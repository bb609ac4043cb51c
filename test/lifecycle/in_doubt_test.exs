defmodule GenRegistry.InDoubtTest do
  @moduledoc """
  Who only may be in a circle of starts, see `GenRegistry.CirclesTest`: it is told so when that is certain, and
  waits meanwhile.
  """

  use ExUnit.Case, async: true

  import CircleSteps
  import Lifecycle

  @moduletag :capture_log

  setup :users_and_guilds

  test "a task that nobody awaits gets the pid", %{users: users} = context do
    test = self()

    init = fn ->
      Task.async(fn -> send(test, {:told, asks_for_itself(context).()}) end)
      wait(test, :init)
      {:ok, nil}
    end

    start = ask(:start, users, :itself, [init])
    pid = reached(:init)
    # It has looked as often as it does.
    read_by(users, 2)
    go(pid)
    assert answer(start) == {:ok, pid}
    assert_receive {:told, {:error, {:already_started, ^pid}}}, 60_000
  end

  test "a task that is awaited at last is told then", %{users: users} = context do
    test = self()

    init = fn ->
      task = Task.async(asks_for_itself(context))
      wait(test, :init)
      {:error, reason} = Task.await(task, :infinity)
      {:stop, reason}
    end

    start = ask(:start, users, :itself, [init])
    pid = reached(:init)
    # It has looked, in vain, and waits.
    read_by(users, 2)
    go(pid)
    assert answer(start) == deadlock([{users, :itself}])
    # Nor is anything left of what the task has asked for.
    assert GenRegistry.lookup(users, :itself) == {:error, :not_found}
    assert %{starting: 0, queued: 0} = GenRegistry.info(users)
  end

  describe "a worker that takes its name before its init" do
    # It has its process by then, for whoever asks.
    defp named(registry, id, init) do
      name = {:via, GenRegistry, {registry, id}}
      [:answer, fn -> GenServer.start_link(LifecycleWorker, init, name: name) end]
    end

    test "and replaces itself", %{users: users} do
      replace = fn -> GenRegistry.replace(users, 1, [plain()], :infinity) end
      init = fn -> {:stop, replace.()} end
      told = GenRegistry.start(users, 1, named(users, 1, init), :infinity)
      assert told == {:error, deadlock([{users, 1}])}
    end

    test "and asks for one that waits for it", %{users: users, guilds: guilds} do
      for ask <- [
            &GenRegistry.lookup_or_start(&1, 1, &2, :infinity),
            &GenRegistry.start(&1, 1, &2, :infinity),
            &GenRegistry.replace(&1, 1, &2, :infinity)
          ] do
        back = fn -> {:stop, GenRegistry.start(users, 1, [plain()], :infinity)} end
        init = fn -> {:stop, ask.(guilds, named(guilds, 1, back))} end
        told = GenRegistry.start(users, 1, [init], :infinity)
        assert {:error, {:error, {:error, {:deadlock, circle}}}} = told
        assert Enum.sort(circle) == Enum.sort([{users, 1}, {guilds, 1}])
      end
    end
  end

  test "one who waits so hears of the end of the registry", %{users: users} = context do
    test = self()

    init = fn ->
      Task.async(fn -> send(test, {:told, attempt(asks_for_itself(context))}) end)
      wait(test, :init)
      {:ok, nil}
    end

    start = ask(:start, users, :itself, [init])
    pid = reached(:init)
    read_by(users, 2)
    kill_registry(users)
    go(pid)

    assert_receive {:told, {:exit, {:killed, {GenServer, :call, [^users, request, :infinity]}}}},
                   60_000

    assert {:start, :itself, [_init]} = request
    assert {:exit, {:killed, _}} = answer(start)
  end

  for {how, await} <- [
        {"one", quote(do: &Task.await(&1, :infinity))},
        {"some", quote(do: &hd(Task.await_many([&1], :infinity)))}
      ] do
    test "a task beside those that are awaited gets it too (#{how})",
         %{users: users} = context do
      test = self()

      init = fn ->
        Task.async(fn -> send(test, {:told, asks_for_itself(context).()}) end)
        unquote(await).(Task.async(fn -> wait(test, :awaited) end))
        {:ok, nil}
      end

      start = ask(:start, users, :itself, [init])
      awaited = reached(:awaited)
      read_by(users, 2)
      go(awaited)
      assert {:ok, pid} = answer(start)
      assert_receive {:told, {:error, {:already_started, ^pid}}}, 60_000
    end
  end

  test "so does a process that an earlier start left behind", %{users: users} = context do
    test = self()

    left = fn ->
      ask = asks_for_itself(context)

      spawn(fn ->
        receive do
          :ask -> send(test, {:told, ask.()})
        end
      end)
    end

    start_link = fn ->
      send(test, {:left, left.()})
      LifecycleWorker.start_link(plain())
    end

    assert {:ok, other} = GenRegistry.start(users, :other, [:answer, start_link])
    assert_received {:left, left}
    start = ask(:start, users, :itself, [held(:init)])
    pid = reached(:init)
    assert starter(pid) == starter(other)
    send(left, :ask)
    read_by(users, 3)
    go(pid)
    assert answer(start) == {:ok, pid}
    assert_receive {:told, {:error, {:already_started, ^pid}}}, 60_000
  end

  test "one whose id has its process already is as good as answered", context do
    %{users: users, guilds: guilds} = context
    test = self()

    # It starts a guild, and has asked for the user, which the registry has not read yet.
    starting_guild =
      spawn_link(fn ->
        table = :sys.get_state(guilds).table
        :ok = GenRegistry.Table.begin_start(table, 1)
        send(test, {:begun, GenRegistry.Waits.begin_wait(self(), users, 1)})
        receive do: (:end -> GenRegistry.Table.end_start(table, self()))
      end)

    assert_receive {:begun, {wait, []}} when is_integer(wait)

    init = fn take? ->
      fn ->
        if take?, do: :yes = GenRegistry.register_name({users, 1}, self())
        init = held(:guild, {:ok, nil}, test)

        {:stop,
         try do
           GenRegistry.start(guilds, 1, [init], 300)
         catch
           :exit, {reason, _call} -> reason
         end}
      end
    end

    told = GenRegistry.start(users, 1, [init.(false)], :infinity)
    assert told == {:error, deadlock([{guilds, 1}, {users, 1}])}
    assert GenRegistry.start(users, 1, [init.(true)], :infinity) == {:error, :timeout}
    go(reached(:guild))
    monitor = watch(starting_guild)
    send(starting_guild, :end)
    assert ended_of(monitor) == :normal
  end

  defp ended_of(monitor) do
    receive do: ({:DOWN, ^monitor, _, _, reason} -> reason)
  end

  test "one that waits for another's start, which does not wait for it, is told nothing",
       context do
    %{users: users, guilds: guilds} = context
    held = ask(:start, guilds, 1, [held(:guild)])
    guild = reached(:guild)
    user = ask(:start, users, 1, [asking(guilds, 1, plain())])
    read_by(guilds, 2)
    go(guild)
    assert answer(held) == {:ok, guild}
    assert {:ok, _} = answer(user)
  end
end
