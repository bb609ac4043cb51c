defmodule RateLimiter do
  @moduledoc """
  How much each user may do: a token bucket for each, in a process of its own.

      iex> RateLimiter.take("alice")
      {:ok, 9}

  A user has a bucket of tokens. Each request takes one out, and one comes back each
  `:interval` milliseconds, until there are `:capacity` again. Who finds the bucket
  empty is refused, and told when the next token comes.

  The id of a user is the id of the process. Nothing here knows whether that process
  was running: `GenRegistry.call/4` finds it or starts it. A full bucket is the same as
  none at all, so the process ends itself when its bucket is full and nobody has asked
  for a while; the registry forgets it then.
  """

  alias RateLimiter.{Bucket, Worker}

  @typedoc "Who is limited: any name, key or address."
  @type user :: String.t()

  @doc """
  Takes a token out of the user's bucket.

  Answers `{:ok, left}` with the number of tokens that are left, or
  `{:error, {:retry_after, milliseconds}}` if there was none. Exits, as
  `GenRegistry.call/4` does, if the user's process crashes over it.

      iex> for _ <- 1..10, do: RateLimiter.take("bob")
      iex> {:error, {:retry_after, milliseconds}} = RateLimiter.take("bob")
      iex> milliseconds > 0
      true
  """
  @spec take(user) :: {:ok, non_neg_integer} | {:error, {:retry_after, pos_integer}}
  def take(user) do
    answer = GenRegistry.call(Worker, user, :take, args: [limit(), idle()])
    :telemetry.execute([:rate_limiter, :take], %{count: 1}, %{user: user, answer: answer})
    answer
  end

  @doc "What users may do, as the application's settings say."
  @spec limit() :: Bucket.limit()
  def limit do
    %{
      capacity: Application.fetch_env!(:rate_limiter, :capacity),
      interval: Application.fetch_env!(:rate_limiter, :interval)
    }
  end

  defp idle, do: Application.fetch_env!(:rate_limiter, :idle)
end
