defmodule Mix.Tasks.RateLimiter.Load do
  @shortdoc "Loads the rate limiter with requests of many users"

  @moduledoc """
  Loads the rate limiter with requests of many users.

      mix rate_limiter.load [--url URL] [--requests N] [--users N] [--clients N]

  Without a `URL` it starts the rate limiter itself; open its live page meanwhile. With
  one it loads a rate limiter that runs already, such as a release.

  `--requests` are made in all (100,000 unless you say otherwise) by `--clients`
  connections (16) in the name of `--users` users (50,000), of which `RateLimiter.Load`
  tells more. Then it waits until the users' processes have ended themselves.
  """

  use Mix.Task

  alias RateLimiter.{Histogram, Load}

  @defaults [requests: 100_000, users: 50_000, clients: 16]

  @impl true
  def run(args) do
    options = options(args)
    before = Load.workers(options.url)

    title = "Rate limiter: #{digits(options.requests)} requests to #{options.url}"
    IO.puts(IO.ANSI.format(["\n", :bright, title, :reset, ", where you can watch\n"]))

    {load_time, result} = timed(fn -> load(options) end)
    loaded = Load.workers(options.url)
    {end_time, :ok} = timed(fn -> await_end(options.url, before.count) end)

    requests = result.allowed + result.refused
    started = loaded.started - before.started

    IO.puts("")
    row("requests allowed", result.allowed, percent(result.allowed, requests))
    row("requests refused", result.refused, percent(result.refused, requests))
    row("requests per second", round(requests / load_time), "#{seconds(load_time)} in all")
    IO.puts("")
    row("half took at most", Histogram.percentile(result.latencies, 50), "microseconds")
    row("99 of 100", Histogram.percentile(result.latencies, 99), "microseconds")
    row("999 of 1,000", Histogram.percentile(result.latencies, 99.9), "microseconds")
    IO.puts("")
    row("workers started", started, percent(started, requests) <> " of the requests")
    row("workers at the end", loaded.count, "#{seconds(end_time)} later all had ended themselves")
    IO.puts("")
  end

  defp options(args) do
    switches = [url: :string, requests: :integer, users: :integer, clients: :integer]

    case OptionParser.parse(args, strict: switches) do
      {options, [], []} -> @defaults |> Keyword.merge(options) |> Map.new() |> check() |> url()
      _ -> usage()
    end
  end

  defp check(options) do
    if Enum.all?([options.requests, options.users, options.clients], &(&1 > 0)),
      do: options,
      else: usage()
  end

  defp usage do
    Mix.raise("Usage: mix rate_limiter.load [--url URL] [--requests N] [--users N] [--clients N]")
  end

  defp url(%{url: url} = options) do
    Mix.Task.run("app.config")

    if String.starts_with?(url, "http://"),
      do: options,
      else: Mix.raise("#{url} is no http:// URL")
  end

  defp url(options) do
    Mix.Task.run("app.start")
    Map.put(options, :url, "http://localhost:#{RateLimiter.Web.port()}")
  end

  defp load(options) do
    result =
      Load.run(options, pause(), fn result ->
        requests = result.allowed + result.refused
        show("#{digits(requests)} requests, #{digits(result.refused)} refused")
      end)

    show_no_more()
    result
  end

  defp await_end(url, count) do
    case Load.workers(url).count do
      left when left <= count ->
        show_no_more()

      left ->
        show("#{digits(left)} workers are there, and end when they have been idle")
        Process.sleep(pause())
        await_end(url, count)
    end
  end

  # On a terminal one line, rewritten all the time; elsewhere a line every second.
  defp show(line),
    do: IO.write(if terminal?(), do: ["\r  ", line, "\e[K"], else: ["  ", line, "\n"])

  defp show_no_more, do: if(terminal?(), do: IO.write("\r\e[K"), else: :ok)
  defp pause, do: if(terminal?(), do: 100, else: 1_000)
  defp terminal?, do: IO.ANSI.enabled?()

  defp row(label, number, note) do
    label = String.pad_trailing(label, 22)
    number = number |> digits() |> String.pad_leading(11)
    IO.puts(IO.ANSI.format(["  ", label, :bright, number, :reset, "   ", :faint, note]))
  end

  defp timed(fun) do
    began = now()
    result = fun.()
    {now() - began, result}
  end

  defp now, do: System.monotonic_time(:microsecond) / 1_000_000

  defp seconds(time), do: "#{:erlang.float_to_binary(time, decimals: 1)} s"

  defp percent(part, all), do: "#{:erlang.float_to_binary(100 * part / all, decimals: 1)} %"

  # 1234567 is 1,234,567
  defp digits(number) do
    number |> Integer.to_string() |> String.replace(~r/\d(?=(\d{3})+$)/, "\\0,")
  end
end
