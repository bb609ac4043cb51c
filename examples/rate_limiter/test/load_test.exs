defmodule RateLimiter.LoadTest do
  use RateLimiter.Case

  import ExUnit.CaptureIO

  alias RateLimiter.{Load, Stats}

  @options %{requests: 503, users: 200, clients: 7}

  describe "RateLimiter.Load" do
    test "makes the requests that were asked for, the same each time" do
      first = load()
      assert first.allowed + first.refused == 503
      assert first.refused > 0
      assert Enum.sum(first.latencies) == 503
      assert %{allowed: allowed, refused: refused} = Stats.snapshot().totals
      assert {allowed, refused} == {first.allowed, first.refused}
      users = Load.workers(url()).count

      stop()
      start()
      assert Map.take(load(), [:allowed, :refused]) == Map.take(first, [:allowed, :refused])
      assert Load.workers(url()).count == users
    end

    test "few users ask a lot, and many ask little" do
      Load.run(Map.merge(@options, %{url: url(), requests: 2_000}))
      # If all asked alike, each of the 200 would get its 10 requests.
      %{allowed: allowed, refused: refused} = Stats.snapshot().totals
      assert allowed in 600..1_400
      assert refused == 2_000 - allowed
    end

    defp load, do: Load.run(Map.put(@options, :url, url()))
  end

  describe "mix rate_limiter.load" do
    @tag settings: [interval: 1, idle: 1]
    test "starts the application, loads it, and waits until the workers have ended" do
      stop()
      output = run(~w(--requests 300 --users 40 --clients 3))

      assert output =~ ~r"300 requests to http://localhost:\d+"
      assert [_, allowed] = Regex.run(~r/requests allowed +(\d+) /, output)
      assert [_, refused] = Regex.run(~r/requests refused +(\d+) /, output)
      assert String.to_integer(allowed) + String.to_integer(refused) == 300
      assert output =~ ~r/workers started +[1-9]/
      assert output =~ "all had ended themselves"
      assert GenRegistry.count(RateLimiter.Worker) == 0
    end

    @tag settings: [interval: 1, idle: 1]
    test "loads a server that runs already" do
      assert run(["--url", url() | ~w(--requests 10)]) =~ "10 requests to #{url()}"
      assert %{allowed: allowed, refused: refused} = Stats.snapshot().totals
      assert allowed + refused == 10
    end

    test "says how it is used, and what is wrong" do
      for args <- [["now"], ~w(--requests many), ~w(--clients 0), ~w(--speed 3)] do
        assert_raise Mix.Error, ~r/Usage/, fn -> run(args) end
      end

      assert_raise Mix.Error, ~r"no http:// URL", fn -> run(~w(--url localhost)) end

      dead = url()
      stop()
      assert_raise RuntimeError, ~r/connection refused/, fn -> run(["--url", dead]) end
    end

    defp run(args) do
      Mix.Task.reenable("app.start")
      capture_io(fn -> Mix.Tasks.RateLimiter.Load.run(args) end)
    end
  end
end
