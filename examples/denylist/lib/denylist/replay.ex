defmodule Denylist.Replay do
  @moduledoc """
  Replays a call log with several readers at once.

  The log is taken in chunks of lines. All events of a recipient in a chunk go to
  the same reader, and a chunk is done before the next one begins, so that a
  recipient's calls and rule changes happen in the order of the log.
  """

  alias Denylist.{CallLog, Calls}

  @chunk 4_000
  @readers 4 * System.schedulers_online()
  @problems_kept 10

  defstruct placed: 0, rejected: 0, changes: 0, malformed: 0, problems: []

  @typedoc """
  What has happened so far. `problems` are the first malformed lines, each with its
  line number and what is wrong with it, the latest first.
  """
  @type t :: %__MODULE__{
          placed: non_neg_integer,
          rejected: non_neg_integer,
          changes: non_neg_integer,
          malformed: non_neg_integer,
          problems: [{pos_integer, String.t()}]
        }

  @doc "The replay of these lines, as a stream of its state after each chunk."
  @spec stream(Enumerable.t()) :: Enumerable.t()
  def stream(lines) do
    lines
    |> Stream.with_index(1)
    |> Stream.chunk_every(@chunk)
    |> Stream.scan(%__MODULE__{}, &replay_chunk/2)
  end

  @doc "Replays these lines."
  @spec run(Enumerable.t()) :: t
  def run(lines), do: lines |> stream() |> Enum.reduce(%__MODULE__{}, fn last, _ -> last end)

  defp replay_chunk(lines, replay) do
    {events, replay} = Enum.flat_map_reduce(lines, replay, &read/2)

    events
    |> Enum.group_by(&reader/1)
    |> Task.async_stream(fn {_reader, events} -> Enum.frequencies_by(events, &play/1) end,
      max_concurrency: @readers,
      ordered: false,
      timeout: :infinity
    )
    |> Enum.reduce(replay, fn {:ok, counts}, replay ->
      Map.merge(replay, counts, fn _key, before, more -> before + more end)
    end)
  end

  defp read({line, number}, replay) do
    case CallLog.parse(line) do
      {:ok, event} -> {[event], replay}
      :skip -> {[], replay}
      {:error, message} -> {[], malformed(replay, {number, message})}
    end
  end

  defp malformed(replay, problem) do
    replay = %{replay | malformed: replay.malformed + 1}

    if replay.malformed <= @problems_kept,
      do: %{replay | problems: [problem | replay.problems]},
      else: replay
  end

  defp reader({:call, _sender, recipient}), do: :erlang.phash2(recipient, @readers)
  defp reader({_change, recipient, _rule}), do: :erlang.phash2(recipient, @readers)

  defp play({:call, sender, recipient}) do
    case Calls.place_call(sender, recipient) do
      {:ok, :place_call} -> :placed
      {:error, :reject_call} -> :rejected
    end
  end

  defp play({:deny, recipient, rule}) do
    :ok = Calls.deny(recipient, rule)
    :changes
  end

  defp play({:allow, recipient, rule}) do
    :ok = Calls.allow(recipient, rule)
    :changes
  end
end
