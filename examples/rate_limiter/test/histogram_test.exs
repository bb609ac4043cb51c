defmodule RateLimiter.HistogramTest do
  use ExUnit.Case, async: true

  alias RateLimiter.Histogram

  doctest Histogram

  test "a percentile is never too low, and too high by a sixteenth at most" do
    for power <- 0..43,
        duration <- [2 ** power, 2 ** power + div(2 ** power, 3), 2 ** (power + 1) - 1] do
      histogram = Histogram.new()
      Histogram.add(histogram, duration)
      said = Histogram.percentile(Histogram.counts(histogram), 50)
      assert said >= duration and said <= duration + div(duration, 16)
    end
  end

  test "durations that nobody expects are counted all the same" do
    histogram = Histogram.new()
    for duration <- [-1, 0, 2 ** 60], do: Histogram.add(histogram, duration)
    assert Enum.sum(Histogram.counts(histogram)) == 3
  end

  test "what has been counted since" do
    histogram = Histogram.new()
    Histogram.add(histogram, 7)
    earlier = Histogram.counts(histogram)
    assert Histogram.percentile(Histogram.since(earlier, earlier), 99) == nil

    Histogram.add(histogram, 3)
    assert Histogram.percentile(Histogram.since(Histogram.counts(histogram), earlier), 99) == 3
  end
end
