defmodule RateLimiter.Case do
  @moduledoc """
  For tests that need the application: each gets it freshly started, on a port that is
  free, with the settings of its `@tag settings: [...]`.

  Without a tag, a bucket has ten tokens and gets no more while the test runs, and no
  process ends itself.
  """

  use ExUnit.CaseTemplate

  @hour 3_600_000
  @settings [port: 0, capacity: 10, interval: @hour, idle: @hour]

  using do
    quote do
      import RateLimiter.Case
    end
  end

  setup context do
    for {key, value} <- Keyword.merge(@settings, context[:settings] || []) do
      Application.put_env(:rate_limiter, key, value, persistent: true)
    end

    start()
    on_exit(&stop/0)
  end

  @doc "Starts the application with the settings that it had before."
  def start do
    {:ok, _} = Application.ensure_all_started(:rate_limiter)
    :ok
  end

  @doc "Stops the application."
  def stop do
    Application.stop(:rate_limiter)
    :ok
  end

  @doc """
  Waits until `fun` answers true, for a minute at most. It should ask a process, so that
  others can run.
  """
  def await(fun, until \\ System.monotonic_time(:second) + 60) do
    cond do
      fun.() -> :ok
      System.monotonic_time(:second) < until -> await(fun, until)
      true -> ExUnit.Assertions.flunk("it did not come to that within a minute")
    end
  end

  @doc "The URL of the running application."
  def url, do: "http://127.0.0.1:#{RateLimiter.Web.port()}"
end
