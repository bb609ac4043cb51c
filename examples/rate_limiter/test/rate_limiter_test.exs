defmodule RateLimiterTest do
  use RateLimiter.Case

  alias RateLimiter.Worker

  @moduletag capture_log: true

  doctest RateLimiter

  test "one process per user, started by the first request" do
    assert GenRegistry.lookup(Worker, "alice") == {:error, :not_found}

    RateLimiter.take("alice")
    {:ok, pid} = GenRegistry.lookup(Worker, "alice")
    RateLimiter.take("alice")
    RateLimiter.take("bob")

    assert GenRegistry.lookup(Worker, "alice") == {:ok, pid}
    assert GenRegistry.count(Worker) == 2
  end

  test "each user has a bucket of their own" do
    for left <- 9..0//-1, do: assert(RateLimiter.take("alice") == {:ok, left})

    assert {:error, {:retry_after, _}} = RateLimiter.take("alice")
    assert RateLimiter.take("bob") == {:ok, 9}
  end

  test "of many requests at once, as many are allowed as there are tokens" do
    answers =
      1..500
      |> Task.async_stream(fn _ -> RateLimiter.take("alice") end, max_concurrency: 100)
      |> Enum.map(fn {:ok, answer} -> answer end)

    assert for({:ok, left} <- Enum.sort(answers), do: left) == Enum.to_list(0..9)
    assert GenRegistry.count(Worker) == 1
  end

  @tag settings: [interval: 1, idle: 1]
  test "a process that nobody asks ends, and the registry forgets it" do
    RateLimiter.take("alice")

    with {:ok, pid} <- GenRegistry.lookup(Worker, "alice") do
      monitor = Process.monitor(pid)
      assert_receive {:DOWN, ^monitor, _, _, reason}
      assert reason in [{:shutdown, :idle}, :noproc]
    end

    assert GenRegistry.lookup(Worker, "alice") == {:error, :not_found}
    assert GenRegistry.count(Worker) == 0
    assert RateLimiter.take("alice") == {:ok, 9}
  end

  describe "when nobody has asked for long" do
    setup do
      RateLimiter.take("alice")
      {:ok, pid} = GenRegistry.lookup(Worker, "alice")
      # As if the last request had been two hours ago.
      :sys.replace_state(pid, &%{&1 | asked_at: &1.asked_at - 7_200_000})
      %{pid: pid}
    end

    test "a process stays until its bucket is full", %{pid: pid} do
      send(pid, :timeout)
      assert Worker.tokens(pid) == 9
      assert GenRegistry.lookup(Worker, "alice") == {:ok, pid}
    end

    test "it ends when its bucket is full", %{pid: pid} do
      monitor = Process.monitor(pid)
      :sys.replace_state(pid, &%{&1 | bucket: &1.bucket - 7_200_000})
      send(pid, :timeout)
      assert_receive {:DOWN, ^monitor, _, _, {:shutdown, :idle}}
    end
  end

  test "messages that nobody should have sent change nothing" do
    RateLimiter.take("alice")
    {:ok, pid} = GenRegistry.lookup(Worker, "alice")
    for message <- [:timeout, :stray, {:EXIT, self(), :normal}], do: send(pid, message)

    assert RateLimiter.take("alice") == {:ok, 8}
    assert GenRegistry.lookup(Worker, "alice") == {:ok, pid}
  end

  test "a request that has found a process that is just ending gets another" do
    RateLimiter.take("alice")
    {:ok, pid} = GenRegistry.lookup(Worker, "alice")
    :sys.suspend(pid)
    :erlang.trace(pid, true, [:receive])
    request = Task.async(fn -> RateLimiter.take("alice") end)
    assert_receive {:trace, ^pid, :receive, {:"$gen_call", _from, :take}}

    :sys.terminate(pid, {:shutdown, :idle})
    assert Task.await(request) == {:ok, 9}
  end

  test "after a crash a user has a full bucket again, and other users' stay as they are" do
    RateLimiter.take("bob")
    RateLimiter.take("alice")
    {:ok, pid} = GenRegistry.lookup(Worker, "alice")
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, _, _, :killed}

    assert RateLimiter.take("alice") == {:ok, 9}
    assert RateLimiter.take("bob") == {:ok, 8}
  end
end
