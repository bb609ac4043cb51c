defmodule RateLimiter.Worker do
  @moduledoc """
  The process of one user, which keeps the user's bucket.

  `GenRegistry` starts it at the user's first request, with `start_link(limit, idle)`,
  and sees to it that there is only one: two would give twice as much.

  It ends itself when nobody has taken a token for `idle` milliseconds, but not before
  its bucket is full: a user must not get a full bucket by being quiet for a moment.

  It takes the request `:take`, which returns as `RateLimiter.take/1` does.
  """

  use GenServer

  alias RateLimiter.Bucket

  @doc "Starts the process of a user."
  @spec start_link(Bucket.limit(), idle :: non_neg_integer) :: GenServer.on_start()
  def start_link(limit, idle), do: GenServer.start_link(__MODULE__, {limit, idle})

  @doc "How many tokens there are. This takes none, and nobody stays longer for it."
  @spec tokens(pid, timeout) :: non_neg_integer
  def tokens(worker, timeout \\ 5_000), do: GenServer.call(worker, :tokens, timeout)

  @impl true
  def init({limit, idle}) do
    now = now()
    state = %{limit: limit, idle: idle, bucket: Bucket.new(now), asked_at: now}
    {:ok, state, time_left(state, now)}
  end

  @impl true
  def handle_call(:take, _from, state) do
    now = now()

    {answer, bucket} =
      case Bucket.take(state.bucket, state.limit, now) do
        {:ok, left, bucket} -> {{:ok, left}, bucket}
        {:error, reason} -> {{:error, reason}, state.bucket}
      end

    state = %{state | bucket: bucket, asked_at: now}
    {:reply, answer, state, time_left(state, now)}
  end

  def handle_call(:tokens, _from, state) do
    now = now()
    {:reply, Bucket.tokens(state.bucket, state.limit, now), state, time_left(state, now)}
  end

  # `:timeout`, when nobody has asked in all that time, or a message that nobody should have sent.
  @impl true
  def handle_info(_message, state) do
    case time_left(state, now()) do
      # With this reason a request that comes too late goes to the next process.
      0 -> {:stop, {:shutdown, :idle}, state}
      left -> {:noreply, state, left}
    end
  end

  # Any message at all ends the wait of a GenServer, so this is counted anew after each.
  defp time_left(state, now), do: max(max(state.bucket, state.asked_at + state.idle) - now, 0)

  defp now, do: System.monotonic_time(:millisecond)
end
