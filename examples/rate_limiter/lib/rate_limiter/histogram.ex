defmodule RateLimiter.Histogram do
  @moduledoc """
  Counts durations, so that percentiles can be told from them at any time.

  Any number of processes add to one at once, without waiting for each other. Each
  duration is counted in a bin, of which there are 16 for each power of two: what a
  percentile says is right to within 6 %, for nanoseconds as for hours.
  """

  import Bitwise

  # Up to 2 to the power of 44 nanoseconds, which is five hours.
  @powers 44
  @bins (@powers - 3) * 16

  @opaque t :: :counters.counters_ref()

  @typedoc "How many durations each bin has, from the shortest on."
  @type counts :: [non_neg_integer]

  @doc "An empty one."
  @spec new() :: t
  def new, do: :counters.new(@bins, [])

  @doc "Counts a duration: an integer, of any unit."
  @spec add(t, integer) :: :ok
  def add(histogram, duration), do: :counters.add(histogram, bin(duration) + 1, 1)

  @doc "What has been counted so far."
  @spec counts(t) :: counts
  def counts(histogram), do: for(n <- 1..@bins, do: :counters.get(histogram, n))

  @doc "What has been counted since `earlier`."
  @spec since(counts, counts) :: counts
  def since(counts, earlier), do: Enum.zip_with(counts, earlier, &(&1 - &2))

  @doc """
  The duration that `percent` of those counted do not exceed, or `nil` if there are none.

      iex> histogram = RateLimiter.Histogram.new()
      iex> for duration <- 1..100, do: RateLimiter.Histogram.add(histogram, duration)
      iex> counts = RateLimiter.Histogram.counts(histogram)
      iex> {RateLimiter.Histogram.percentile(counts, 10), RateLimiter.Histogram.percentile(counts, 99)}
      {10, 99}
  """
  @spec percentile(counts, number) :: non_neg_integer | nil
  def percentile(counts, percent) do
    case Enum.sum(counts) do
      0 -> nil
      all -> counts |> nth(max(ceil(all * percent / 100), 1), 0) |> highest()
    end
  end

  defp nth([count | counts], n, bin) do
    if n <= count, do: bin, else: nth(counts, n - count, bin + 1)
  end

  # The first 16 are of one duration each. Of a longer one, its highest 5 bits count.
  defp bin(duration) when duration < 16, do: max(duration, 0)

  defp bin(duration) do
    power = trunc(:math.log2(duration))
    min((power - 3) * 16 + (duration >>> (power - 4) &&& 15), @bins - 1)
  end

  # The longest duration that is counted in a bin.
  defp highest(bin) when bin < 16, do: bin

  defp highest(bin) do
    power = div(bin, 16) + 3
    ((17 + rem(bin, 16)) <<< (power - 4)) - 1
  end
end
