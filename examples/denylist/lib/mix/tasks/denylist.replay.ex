defmodule Mix.Tasks.Denylist.Replay do
  @shortdoc "Replays a call log against the denylist"

  @moduledoc """
  Replays a call log against the denylist.

      mix denylist.replay [FILE] [--data DIR]

  `FILE` is a call log, as `Denylist.CallLog` describes it, plain or compressed by
  gzip; `-` is standard input. Without it, the log that ships with the example is
  replayed.

  Rules are kept in `DIR`, by default `_data`: those written in one run are there
  in the next.
  """

  use Mix.Task

  alias Denylist.{CallLog, Replay, Store, Worker}

  @shipped_log "data/calls.csv.gz"

  @impl true
  def run(args) do
    {log, data} = parse_args(args)
    if data, do: Application.put_env(:mnesia, :dir, to_charlist(data), persistent: true)
    Mix.Task.run("app.start")

    {stored_numbers, stored_rules} = Store.size()
    IO.puts(IO.ANSI.format(["\n", :bright, "Denylist: replaying #{name(log)}"]))

    {replay_time, replay} = timed(fn -> replay(log) end)
    started = GenRegistry.count(Worker)

    # The application stops its workers, and they save what they have changed.
    {stop_time, :ok} = timed(fn -> Application.stop(:denylist) end)
    {saved_numbers, saved_rules} = Store.size()
    :ok = Application.stop(:mnesia)

    calls = replay.placed + replay.rejected
    lookups = calls + replay.changes
    found = lookups - started

    row("calls placed", replay.placed, percent(replay.placed, calls))
    row("calls rejected", replay.rejected, percent(replay.rejected, calls))
    row("calls per second", round(calls / replay_time), "#{seconds(replay_time)} in all")
    IO.puts("")
    row("workers started", started, "all stopped again in #{seconds(stop_time)}")
    row("workers found running", found, "#{percent(found, lookups)} of the lookups")
    IO.puts("")
    row("rules at the start", stored_rules, "of #{digits(stored_numbers)} numbers")
    row("rule changes", replay.changes)
    row("rules at the end", saved_rules, "of #{digits(saved_numbers)} numbers")
    IO.puts("")
    row("malformed lines", replay.malformed)
    problems(replay)
    IO.puts("")
  end

  defp parse_args(args) do
    case OptionParser.parse!(args, strict: [data: :string]) do
      {options, []} -> {@shipped_log, options[:data]}
      {options, ["-"]} -> {"-", options[:data]}
      {options, [path]} -> {existing(path), options[:data]}
      _ -> Mix.raise("Usage: mix denylist.replay [FILE] [--data DIR]")
    end
  end

  defp existing(path) do
    if File.exists?(path) and not File.dir?(path),
      do: path,
      else: Mix.raise("There is no file #{path}")
  end

  defp name("-"), do: "standard input"
  defp name(path), do: Path.relative_to_cwd(path)

  defp replay(log) do
    {replay, _shown_at} =
      log
      |> CallLog.lines()
      |> Replay.stream()
      |> Enum.reduce({%Replay{}, now()}, fn replay, {_previous, shown_at} ->
        {replay, show_progress(replay, shown_at)}
      end)

    IO.puts(if terminal?(), do: "\r\e[K", else: "")
    replay
  end

  # On a terminal one line, rewritten all the time; elsewhere a line every second.
  defp show_progress(replay, shown_at) do
    pause = if terminal?(), do: 0.1, else: 1

    if now() - shown_at < pause do
      shown_at
    else
      line =
        "  #{digits(replay.placed + replay.rejected)} calls, " <>
          "#{digits(replay.rejected)} rejected, #{digits(GenRegistry.count(Worker))} workers"

      IO.write(if terminal?(), do: ["\r", line, "\e[K"], else: [line, "\n"])
      now()
    end
  end

  defp terminal?, do: IO.ANSI.enabled?()

  defp row(label, number, note \\ nil) do
    label = String.pad_trailing(label, 22)
    number = number |> digits() |> String.pad_leading(11)
    note = if note, do: ["   ", :faint, note], else: []
    IO.puts(IO.ANSI.format(["  ", label, :bright, number, :reset, note]))
  end

  defp problems(replay) do
    for {number, message} <- Enum.reverse(replay.problems) do
      IO.puts("    line #{digits(number)}: #{message}")
    end

    case replay.malformed - length(replay.problems) do
      0 -> :ok
      more -> IO.puts("    and #{digits(more)} more")
    end
  end

  defp timed(fun) do
    began = now()
    result = fun.()
    {now() - began, result}
  end

  defp now, do: System.monotonic_time(:microsecond) / 1_000_000

  defp seconds(time), do: "#{:erlang.float_to_binary(time, decimals: 1)} s"

  defp percent(_part, 0), do: "0.0 %"
  defp percent(part, all), do: "#{:erlang.float_to_binary(100 * part / all, decimals: 1)} %"

  # 1234567 is 1,234,567
  defp digits(number) do
    number |> Integer.to_string() |> String.replace(~r/\d(?=(\d{3})+$)/, "\\0,")
  end
end
