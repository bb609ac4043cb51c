defmodule RateLimiter.Bucket do
  @moduledoc """
  A token bucket, as a single number: the time at which it will be full again.

  Of a bucket that holds 10 tokens and gets one each second, 3 are missing if it will
  be full in 3 seconds. To take a token is to put that time off by one interval, and
  there is none if that would put it more than 10 seconds off. So nothing has to be
  added to anything as time goes by, and no fractions are lost.

  Times are integers, in milliseconds of any clock that does not go back.

      iex> limit = %{capacity: 2, interval: 1_000}
      iex> {:ok, 1, bucket} = RateLimiter.Bucket.take(RateLimiter.Bucket.new(0), limit, 0)
      iex> {:ok, 0, bucket} = RateLimiter.Bucket.take(bucket, limit, 400)
      iex> RateLimiter.Bucket.take(bucket, limit, 900)
      {:error, {:retry_after, 100}}
      iex> {:ok, 0, _bucket} = RateLimiter.Bucket.take(bucket, limit, 1_000)
  """

  @typedoc "How many tokens a bucket holds, and how many milliseconds it takes to get one back."
  @type limit :: %{capacity: pos_integer, interval: pos_integer}

  @typedoc "When it is full again."
  @type t :: integer

  @doc "A full one."
  @spec new(now :: integer) :: t
  def new(now), do: now

  @doc "Takes a token, if there is one: then it also answers how many are left."
  @spec take(t, limit, now :: integer) ::
          {:ok, left :: non_neg_integer, t} | {:error, {:retry_after, pos_integer}}
  def take(full_at, limit, now) do
    taken = max(full_at, now) + limit.interval
    too_late_by = taken - now - limit.capacity * limit.interval

    if too_late_by <= 0,
      do: {:ok, tokens(taken, limit, now), taken},
      else: {:error, {:retry_after, too_late_by}}
  end

  @doc "How many tokens there are."
  @spec tokens(t, limit, now :: integer) :: non_neg_integer
  def tokens(full_at, limit, now) do
    missing = max(full_at - now, 0)
    div(limit.capacity * limit.interval - missing, limit.interval)
  end
end
