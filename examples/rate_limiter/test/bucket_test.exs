defmodule RateLimiter.BucketTest do
  use ExUnit.Case, async: true

  alias RateLimiter.Bucket

  doctest Bucket

  @limit %{capacity: 5, interval: 100}

  test "a full bucket has all its tokens, however long it has been full" do
    for now <- [0, 1, 1_000_000] do
      assert Bucket.tokens(Bucket.new(0), @limit, now) == 5
    end
  end

  test "a token comes back each interval" do
    empty = Enum.reduce(1..5, Bucket.new(0), fn _, bucket -> take!(bucket, 0) end)

    assert for(now <- [0, 99, 100, 199, 200, 500, 9_999], do: Bucket.tokens(empty, @limit, now)) ==
             [0, 0, 1, 1, 2, 5, 5]
  end

  test "who is refused finds a token after the time that was said, and not before" do
    empty = Enum.reduce(1..5, Bucket.new(0), fn _, bucket -> take!(bucket, 0) end)

    {:error, {:retry_after, wait}} = Bucket.take(empty, @limit, 30)
    assert {:error, {:retry_after, 1}} = Bucket.take(empty, @limit, 30 + wait - 1)
    assert {:ok, 0, _} = Bucket.take(empty, @limit, 30 + wait)
  end

  test "whatever is asked and when, no stretch of time gives more than a full bucket and what came back" do
    for seed <- 1..50 do
      {taken, _} =
        Enum.flat_map_reduce(1..300, {Bucket.new(0), 0, :rand.seed_s(:exsss, seed)}, fn _, acc ->
          {bucket, now, random} = acc
          {pause, random} = :rand.uniform_s(120, random)
          now = now + pause - 1

          case Bucket.take(bucket, @limit, now) do
            {:ok, _left, bucket} -> {[now], {bucket, now, random}}
            {:error, _} -> {[], {bucket, now, random}}
          end
        end)

      # The sixth after any one comes an interval after it at the earliest, the seventh two, ...
      for {first, n} <- Enum.with_index(taken), {last, m} <- Enum.with_index(taken), m >= n + 5 do
        assert last - first > (m - n - 5) * 100
      end
    end
  end

  defp take!(bucket, now) do
    {:ok, _left, bucket} = Bucket.take(bucket, @limit, now)
    bucket
  end
end
