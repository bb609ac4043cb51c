defmodule RateLimiter.Stats do
  @moduledoc """
  What the live page shows: counts of each of the last two minutes' seconds.

  `GenRegistry` tells by telemetry when a worker has started and when one has ended,
  and `RateLimiter.take/1` how it has answered. The handlers of these events run in the
  processes where they happen, so they only add to counters. Once a second, this
  process looks how far the counters have come.

  However many workers there are, this takes the same time.
  """

  use GenServer

  alias RateLimiter.{Histogram, Worker}

  @events [
    [:gen_registry, :worker, :start, :stop],
    [:gen_registry, :worker, :start, :exception],
    [:gen_registry, :worker, :exit],
    [:rate_limiter, :take]
  ]

  @counters [:started, :failed, :ended, :allowed, :refused]

  @seconds 120
  @sample 8

  @typedoc """
  `totals` since the application has started. `history` has a list for each figure, one
  number a second, the oldest first: the counts of that second, how many workers there
  were at its end, and half (`p50`) and 99 of 100 (`p99`) of its starts took no more
  than so many microseconds, `nil` if there was none. `sample` are some workers.
  """
  @type snapshot :: %{
          totals: %{atom => non_neg_integer},
          history: %{atom => [non_neg_integer | nil]},
          sample: [{RateLimiter.user(), pid}]
        }

  @doc "Starts it, linked to the caller."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The figures up to the last full second, and the totals of now."
  @spec snapshot() :: snapshot
  def snapshot, do: GenServer.call(__MODULE__, :snapshot)

  @doc "Ends the running second, before its time."
  @spec tick() :: :ok
  def tick do
    send(__MODULE__, :tick)
    :ok
  end

  @impl true
  def init(nil) do
    counters = :counters.new(length(@counters), [])
    latencies = Histogram.new()

    # If this process has crashed, its handlers are still there.
    :telemetry.detach(__MODULE__)

    :ok =
      :telemetry.attach_many(
        __MODULE__,
        @events,
        &__MODULE__.handle_event/4,
        {counters, latencies}
      )

    {:ok, _timer} = :timer.send_interval(1_000, :tick)

    {:ok,
     %{
       counters: counters,
       latencies: latencies,
       before: {totals(counters), Histogram.counts(latencies)},
       seconds: [],
       sample: []
     }}
  end

  @doc false
  def handle_event([_, _, :start, :stop], times, %{result: :ok}, {counters, latencies}) do
    count(counters, :started)
    # What the caller has waited for: its turn, and the start itself.
    native = times.queue_time + times.duration
    Histogram.add(latencies, System.convert_time_unit(native, :native, :nanosecond))
  end

  def handle_event([_, _, :start, _stop_or_exception], _times, _worker, {counters, _}) do
    count(counters, :failed)
  end

  def handle_event([_, _, :exit], _times, _worker, {counters, _}) do
    count(counters, :ended)
  end

  def handle_event([:rate_limiter, :take], _times, %{answer: answer}, {counters, _}) do
    count(counters, if(match?({:ok, _}, answer), do: :allowed, else: :refused))
  end

  @impl true
  def handle_call(:snapshot, _from, state) do
    snapshot = %{
      totals: totals(state.counters),
      history: history(state.seconds),
      sample: state.sample
    }

    {:reply, snapshot, state}
  end

  @impl true
  def handle_info(:tick, state) do
    {totals_before, latencies_before} = state.before
    totals = totals(state.counters)
    latencies = Histogram.counts(state.latencies)
    of_this_second = Histogram.since(latencies, latencies_before)

    second =
      totals
      |> Map.merge(totals_before, fn _name, now, before -> now - before end)
      |> Map.merge(%{
        workers: GenRegistry.count(Worker),
        p50: microseconds(Histogram.percentile(of_this_second, 50)),
        p99: microseconds(Histogram.percentile(of_this_second, 99))
      })

    {:noreply,
     %{
       state
       | before: {totals, latencies},
         seconds: Enum.take([second | state.seconds], @seconds),
         sample: next_sample(state.sample)
     }}
  end

  defp history(seconds) do
    for figure <- [:workers, :p50, :p99 | @counters], into: %{} do
      {figure, for(second <- Enum.reverse(seconds), do: second[figure])}
    end
  end

  # One goes and one comes each second, so that a person can follow. Those that have ended go, too.
  defp next_sample(sample) do
    stay =
      for {user, pid} <- Enum.take(sample, @sample - 1),
          GenRegistry.lookup(Worker, user) == {:ok, pid},
          do: {user, pid}

    come = for _ <- 1..(@sample - length(stay)), worker = GenRegistry.sample(Worker), do: worker
    Enum.uniq(come ++ stay)
  end

  for {name, index} <- Enum.with_index(@counters, 1) do
    defp count(counters, unquote(name)), do: :counters.add(counters, unquote(index), 1)
  end

  defp totals(counters) do
    for {name, index} <- Enum.with_index(@counters, 1), into: %{} do
      {name, :counters.get(counters, index)}
    end
  end

  defp microseconds(nil), do: nil
  defp microseconds(nanoseconds), do: div(nanoseconds, 1_000)
end
