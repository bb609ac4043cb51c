defmodule RateLimiter.StatsTest do
  use RateLimiter.Case

  alias RateLimiter.{Client, Stats, Worker}

  test "counts starts and requests" do
    for user <- ["alice", "bob", "carol"], _ <- 1..12, do: RateLimiter.take(user)
    await_total(:started, 3)
    Stats.tick()
    %{totals: totals, history: history} = Stats.snapshot()

    assert %{started: 3, failed: 0, allowed: 30, refused: 6} = totals
    # A second may have ended meanwhile.
    for {figure, total} <- totals, do: assert(Enum.sum(history[figure]) == total)
    assert List.last(history.workers) == 3
    assert Enum.all?(history.p50 ++ history.p99, &(&1 == nil or &1 >= 0))
    assert Enum.any?(history.p99)
  end

  @tag settings: [interval: 1, idle: 1]
  test "counts ends" do
    for user <- ["alice", "bob", "carol"], do: RateLimiter.take(user)
    await_total(:ended, 3)
  end

  test "keeps two minutes" do
    for _ <- 1..130, do: Stats.tick()
    for {_figure, values} <- Stats.snapshot().history, do: assert(length(values) == 120)
  end

  test "samples workers, and no more those that have ended" do
    for n <- 1..50, do: RateLimiter.take("user-#{n}")
    for _ <- 1..100, do: Stats.tick()
    %{sample: sample} = Stats.snapshot()

    assert length(Enum.uniq(sample)) == length(sample)
    assert length(sample) in 1..8
    for {user, pid} <- sample, do: assert(GenRegistry.lookup(Worker, user) == {:ok, pid})

    for n <- 1..50, do: GenRegistry.stop(Worker, "user-#{n}")
    Stats.tick()
    assert Stats.snapshot().sample == []
  end

  test "goes on after a crash" do
    RateLimiter.take("alice")
    stats = Process.whereis(Stats)
    monitor = Process.monitor(stats)
    Process.exit(stats, :kill)
    assert_receive {:DOWN, ^monitor, _, _, :killed}

    await_other(stats)
    RateLimiter.take("bob")
    await_total(:started, 1)
    assert %{started: 1, allowed: 1} = Stats.snapshot().totals
  end

  test "GET /stats" do
    for _ <- 1..3, do: RateLimiter.take(~s("a"))
    Stats.tick()
    Stats.snapshot()
    {:ok, client} = Client.connect(url())
    {:ok, {200, _headers, body}} = Client.request(client, "GET", "/stats")

    assert body =~ ~s("limit":{"capacity":10,"interval":3600000})
    assert body =~ ~s("count":1)
    assert body =~ ~s("allowed":3)
    assert body =~ ~S("sample":[["\"a\"",7]])
  end

  # A start is counted when its caller may have its answer already.
  defp await_total(name, count), do: await(fn -> Stats.snapshot().totals[name] == count end)

  defp await_other(pid) do
    await(fn ->
      Supervisor.which_children(RateLimiter.Supervisor)
      Process.whereis(Stats) not in [nil, pid]
    end)
  end
end
