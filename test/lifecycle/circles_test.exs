defmodule GenRegistry.CirclesTest do
  @moduledoc """
  Starts, and ends of workers, that wait for themselves: one of each circle is told so at once, and in
  doubt none.
  """

  use ExUnit.Case, async: true

  import CircleSteps
  import Lifecycle

  @moduletag :capture_log

  setup :users_and_guilds

  # 1 waits in tasks for 2 and 3, these for 4, and that for 1: whoever closes the last link closes two.
  test "of two circles with a link in common, each is told", %{users: users} do
    test = self()

    ask = fn ask, id, other ->
      answer = GenRegistry.lookup_or_start(users, other, [fn -> ask.(ask, other) end], :infinity)
      send(test, {id, other, answer})
    end

    init = fn
      init, 1 ->
        tasks = for other <- [2, 3], do: Task.async(fn -> ask.(init, 1, other) end)
        Task.await_many(tasks, :infinity)
        {:ok, nil}

      init, id ->
        ask.(init, id, if(id == 4, do: 1, else: 4))
        {:ok, nil}
    end

    for round <- 1..20 do
      asks = for id <- [2, 1], do: ask(:lookup_or_start, users, id, [fn -> init.(init, id) end])
      for ask <- asks, do: assert({:ok, _} = answer(ask))
      told = for _ <- 1..5, do: receive(do: ({from, to, answer} -> {from, to, answer}))
      assert Enum.any?(told, &match?({_, _, {:error, {:deadlock, _}}}, &1)), "round #{round}"
      for id <- 1..4, do: GenRegistry.stop(users, id)
    end
  end

  test "a circle is found beside a way to it that nobody awaits", %{users: users} do
    test = self()
    own = fn -> GenRegistry.start(users, :itself, [plain()], :infinity) end

    init = fn ->
      # Left alone, it asks for what comes after this.
      left =
        spawn(fn ->
          send(test, {:left, GenRegistry.lookup_or_start(users, :itself, [plain()], :infinity)})
        end)

      await_call(left)
      send(test, {:told, own |> Task.async() |> Task.await(:infinity)})
      {:ok, nil}
    end

    assert {:ok, pid} = GenRegistry.start(users, :itself, [init], :infinity)
    assert_receive {:told, told}
    assert told == deadlock([{users, :itself}])
    assert_receive {:left, {:ok, ^pid}}
  end

  test "what a killed registry left is told too, in its end", %{users: users} do
    test = self()

    ends = fn id, other ->
      fn ->
        Process.flag(:trap_exit, true)

        {:ok,
         fn _reason ->
           wait(test, {:end, id})

           send(
             test,
             {:told, id, GenRegistry.lookup_or_start(users, other, [plain()], :infinity)}
           )
         end}
      end
    end

    workers = for {id, other} <- [{1, 2}, {2, 1}], do: start!(users, id, ends.(id, other))
    kill_registry(users)
    for id <- 1..2, do: reached({:end, id})
    for pid <- workers, do: go(pid)
    told = for id <- 1..2, do: receive(do: ({:told, ^id, told} -> told))
    assert [{:error, {:deadlock, circle}}] = for({:error, _} = told <- told, do: told)
    assert Enum.sort(circle) == [{users, 1}, {users, 2}]
    assert [{:ok, _}] = for({:ok, _} = told <- told, do: told)
  end

  describe "a start of itself" do
    test "in its init, in its start_link", %{users: users} = context do
      test = self()
      ask = fn -> send(test, {:told, asks_for_itself(context).()}) end

      for args <- [
            in_init(ask),
            in_start_link(ask)
          ] do
        assert {:ok, _} = GenRegistry.start(users, :itself, args, :infinity)
        assert_received {:told, told}
        assert told == deadlock([{users, :itself}])
        assert GenRegistry.stop(users, :itself) == :ok
      end
    end

    for {way, await} <- [
          {"a task", quote(do: &(&1 |> Task.async() |> Task.await(:infinity)))},
          {"tasks that are awaited together",
           quote(do: &([Task.async(&1)] |> Task.await_many(:infinity) |> hd()))},
          {"a task of a task",
           quote(
             do: fn ask ->
               Task.await(Task.async(fn -> Task.await(Task.async(ask), :infinity) end), :infinity)
             end
           )},
          {"a stream of tasks",
           quote(
             do: fn ask ->
               [ok: told] = Enum.to_list(Task.async_stream([ask], & &1.(), timeout: :infinity))

               told
             end
           )},
          {"another server's init",
           quote(
             do: fn ask ->
               {:error, told} = GenServer.start_link(LifecycleWorker, fn -> {:stop, ask.()} end)
               told
             end
           )},
          {"an agent of a task's",
           quote(
             do: fn ask ->
               fn ->
                 {:ok, agent} = Agent.start_link(ask)
                 told = Agent.get(agent, & &1)
                 Agent.stop(agent)
                 told
               end
               |> Task.async()
               |> Task.await(:infinity)
             end
           )}
        ],
        where <- [:init, :start_link] do
      test "in #{way} of its #{where}", %{users: users} = context do
        test = self()

        tell = fn ->
          # What fails in it is no end of this.
          Process.flag(:trap_exit, true)
          send(test, {:told, unquote(await).(asks_for_itself(context))})
        end

        args =
          if unquote(where) == :init,
            do: in_init(tell),
            else: in_start_link(tell)

        assert {:ok, _} = GenRegistry.start(users, :itself, args, :infinity)
        assert_received {:told, told}
        assert told == deadlock([{users, :itself}])
      end
    end

    test "by the pid of its registry, or with this node", %{users: users} do
      for server <- [Process.whereis(users), {users, node()}] do
        init = asking(server, :itself, plain())
        assert GenRegistry.start(server, :itself, [init]) == deadlock([{users, :itself}])
      end
    end
  end

  test "starts in a circle, through one registry or several, whose ids tell the way", context do
    %{users: users, guilds: guilds} = context

    for {first, second, third} <- [
          {{users, 1}, {users, 2}, {users, 3}},
          {{users, 1}, {guilds, 1}, {guilds, 2}}
        ] do
      ask_for = fn {registry, id}, init -> asking(registry, id, init) end
      {registry, id} = first

      init = ask_for.(second, ask_for.(first, plain()))
      told = GenRegistry.start(registry, id, [init], :infinity)
      assert told == deadlock([first, second])

      init = ask_for.(second, ask_for.(third, ask_for.(first, plain())))
      told = GenRegistry.start(registry, id, [init], :infinity)
      assert told == deadlock([first, second, third])
    end
  end

  test "exactly one of those who close a circle is told, and the others go on", context do
    %{users: users, guilds: guilds} = context
    test = self()

    for n <- 1..100 do
      init = fn registry ->
        fn ->
          told = GenRegistry.lookup_or_start(registry, n, [plain()], :infinity)
          send(test, {n, told})
          {:ok, nil}
        end
      end

      user = ask(:start, users, n, [init.(guilds)])
      guild = ask(:start, guilds, n, [init.(users)])

      # The other's start is under way before, or it is the one of this init: then there is no circle.
      answers = [{users, answer(user)}, {guilds, answer(guild)}]

      told =
        for {registry, {:ok, _}} <- answers do
          assert_received {^n, told}
          {registry, told}
        end

      assert length(for {_, {:error, {:deadlock, [_, _]}}} <- told, do: 1) <= 1
      assert Enum.all?(told, fn {_, told} -> match?({tag, _} when tag in [:ok, :error], told) end)
      for {registry, _} <- answers, do: assert({:ok, _} = GenRegistry.lookup(registry, n))
    end
  end

  # Starts that ask at random for others, by themselves and in tasks, from many callers at once: `next`
  # says for which, after one. Answers what those in the starts were told.
  defp at_random(registries, ids, next) do
    told = :counters.new(2, [])

    tasks =
      for _ <- 1..8 do
        Task.async(fn ->
          for _ <- 1..200, do: random_start(registries, Enum.random(ids), next, told)
        end)
      end

    # A circle of which nobody is told would hold this up for ever.
    Task.await_many(tasks, :infinity)
    %{deadlock: :counters.get(told, 1), other: :counters.get(told, 2)}
  end

  defp random_start(registries, id, next, told) do
    registry = Enum.random(registries)

    ask = fn ->
      for other <- next.(id) do
        nested = fn -> random_start(registries, other, next, told) end
        if coin?(), do: nested.(), else: nested |> Task.async() |> Task.await(:infinity)
      end
    end

    init = fn ->
      Process.flag(:trap_exit, true)
      ask.()
      {:ok, fn _reason -> if coin?(), do: ask.() end}
    end

    start_link = fn ->
      ask.()
      LifecycleWorker.start_link(plain())
    end

    args = if coin?(), do: [init], else: [:answer, start_link]

    case GenRegistry.lookup_or_start(registry, id, args, :infinity) do
      {:error, {:deadlock, [first | _] = circle}} ->
        :counters.add(told, 1, 1)
        assert first == {registry, id}
        assert Enum.uniq(circle) == circle

      _ ->
        :counters.add(told, 2, 1)
    end

    if coin?(), do: GenRegistry.stop(registry, id)
  end

  defp coin?, do: :rand.uniform(2) == 1

  test "of starts that are in none, none is told", %{users: users, guilds: guilds} do
    # Only for later ones.
    next = fn id -> for _ <- 1..2, coin?(), id < 20, do: id + :rand.uniform(5) end
    assert %{deadlock: 0, other: other} = at_random([users, guilds], 1..10, next)
    assert other >= 1_600
  end

  test "of starts that ask for each other at random, all come to an end", context do
    next = fn _id -> if coin?(), do: [:rand.uniform(6)], else: [] end
    assert %{deadlock: deadlock} = at_random([context.users, context.guilds], 1..6, next)
    assert deadlock > 0
  end

  describe "a worker that is being stopped, and asks in its terminate" do
    defp at_end(test, ask) do
      fn ->
        Process.flag(:trap_exit, true)
        {:ok, fn _reason -> send(test, {:told, ask.()}) end}
      end
    end

    # What it may ask for its own id, and what it is told.
    defp own_asks(users) do
      start = fn -> GenRegistry.start(users, :itself, [plain()], :infinity) end
      stop = fn -> GenRegistry.stop(users, :itself) end
      in_task = fn ask -> fn -> ask |> Task.async() |> Task.await(:infinity) end end
      told = deadlock([{users, :itself}])

      [
        {start, told},
        {fn -> GenRegistry.lookup_or_start(users, :itself, [plain()], :infinity) end, told},
        {in_task.(start), told},
        {fn -> GenRegistry.register_name({users, :itself}, self()) end, :no},
        {stop, :ok},
        {in_task.(stop), :ok}
      ]
    end

    test "for its own id", %{users: users} do
      for {ask, told} <- own_asks(users) do
        {:ok, _} = GenRegistry.start(users, :itself, [at_end(self(), ask)])
        assert GenRegistry.stop(users, :itself) == :ok
        assert_received {:told, ^told}
      end
    end

    test "for one whose start waits for its end", %{users: users, guilds: guilds} do
      {:ok, _} = GenRegistry.start(users, 1, [at_end(self(), asking_back(users, guilds))])
      assert GenRegistry.stop(users, 1) == :ok
      assert_received {:told, told}
      assert told == deadlock([{users, 1}, {guilds, 1}])
    end

    defp asking_back(users, guilds) do
      again = asking(users, 1, plain())
      fn -> GenRegistry.start(guilds, 1, [again], :infinity) end
    end
  end

  describe "what a start leaves that has killed its starter, and asks in its terminate" do
    defp kills_its_starter(at_end) do
      start_link = fn ->
        {:ok, _pid} = LifecycleWorker.start_link(at_end)
        Process.exit(self(), :kill)
        hang()
      end

      [:answer, start_link]
    end

    defp start_and_kill(registry, id, at_end) do
      answer = GenRegistry.start(registry, id, kills_its_starter(at_end), :infinity)
      assert answer == {:error, {:starter_died, :killed}}
    end

    # It does so at once: perhaps before anybody knows of that starter's death.
    test "for its own id", %{users: users} do
      for _ <- 1..20, {ask, told} <- own_asks(users) do
        start_and_kill(users, :itself, at_end(self(), ask))
        assert_receive {:told, ^told}, 60_000
      end

      assert {:ok, _} = GenRegistry.start(users, :itself, [plain()], :infinity)
    end

    test "for one whose start waits for its end", %{users: users, guilds: guilds} do
      for _ <- 1..20 do
        start_and_kill(users, 1, at_end(self(), asking_back(users, guilds)))
        assert_receive {:told, {:error, {:deadlock, circle}}}, 60_000
        assert Enum.sort(circle) == Enum.sort([{users, 1}, {guilds, 1}])
      end
    end
  end

  test "a start that is to be stopped by itself is told so once", %{users: users} do
    test = self()

    init = fn ->
      # It outlives the start.
      spawn(fn ->
        send(test, {:told, self(), GenRegistry.stop(users, :itself)})
        hang()
      end)

      wait(test, :init)
      {:ok, nil}
    end

    start = ask(:start, users, :itself, [init])
    pid = reached(:init)
    assert_receive {:told, asker, :ok}
    go(pid)
    assert answer(start) == {:ok, pid}
    # It ends as the next thing that is done for its id.
    assert GenRegistry.stop(users, :itself) in [:ok, {:error, :not_found}]
    :sys.get_state(users)
    assert Process.info(asker, :messages) == {:messages, []}
  end

  test "an end that a start waits for needs no place, nor do the starts in it", %{users: users} do
    test = self()

    at_end = fn ->
      Process.flag(:trap_exit, true)

      {:ok,
       fn _ -> send(test, {:told, GenRegistry.start(users, :at_end, [plain()], :infinity)}) end}
    end

    {:ok, _} = GenRegistry.start(users, :old, [at_end])
    # It has the only place.
    args = in_init(fn -> :ok = GenRegistry.stop(users, :old) end)
    assert {:ok, _} = GenRegistry.start(users, :new, args, :infinity)
    assert_received {:told, {:ok, _}}
  end
end
