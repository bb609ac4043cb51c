defmodule Denylist.CallLog do
  @moduledoc """
  Reads call logs: text, one event a line.

      call,SENDER,RECIPIENT     SENDER calls RECIPIENT
      deny,RECIPIENT,RULE       RECIPIENT takes no more calls from RULE
      allow,RECIPIENT,RULE      RECIPIENT takes that rule back

  Senders and recipients are E.164 numbers: `+` and 4 to 15 digits. A rule is such
  a number, or the beginning of one followed by a star: `+44*`. Blank lines and
  lines that begin with `#` are skipped.
  """

  alias Denylist.Rules

  @type event ::
          {:call, sender :: Rules.phone_number(), recipient :: Rules.phone_number()}
          | {:deny | :allow, recipient :: Rules.phone_number(), Rules.rule()}

  @doc """
  The lines of a file, plain or compressed by gzip, or for `"-"` of standard input.
  """
  @spec lines(Path.t()) :: Enumerable.t()
  def lines("-") do
    # As bytes: a line that is not UTF-8 is reported like any other bad line.
    :ok = :io.setopts(encoding: :latin1)
    IO.binstream(:stdio, :line)
  end

  # With :compressed, a file that is not compressed is read as it is.
  def lines(path), do: File.stream!(path, [:compressed])

  @doc "Reads one line. The message of an error says what is wrong with the line."
  @spec parse(binary) :: {:ok, event} | :skip | {:error, String.t()}
  def parse(line) do
    case line |> String.trim() |> :binary.split(",", [:global]) do
      [""] ->
        :skip

      ["#" <> _ | _] ->
        :skip

      ["call", sender, recipient] ->
        with :ok <- check_number("sender", sender),
             :ok <- check_number("recipient", recipient),
             do: {:ok, {:call, sender, recipient}}

      [change, recipient, rule] when change in ["deny", "allow"] ->
        with :ok <- check_number("recipient", recipient),
             :ok <- check_rule(rule),
             do: {:ok, {String.to_existing_atom(change), recipient, rule}}

      [word | fields] when word in ["call", "deny", "allow"] ->
        {:error, "#{word} needs 2 fields after it, not #{length(fields)}"}

      [word | _] ->
        {:error, "#{show(word)} is none of call, deny, allow"}
    end
  end

  defp check_number(role, field) do
    if number?(field), do: :ok, else: {:error, "#{role} #{show(field)} is not an E.164 number"}
  end

  defp check_rule(field) do
    if number?(field) or prefix?(field),
      do: :ok,
      else: {:error, "rule #{show(field)} is neither an E.164 number nor a prefix such as +44*"}
  end

  defp prefix?(field), do: field =~ ~r/\A\+[1-9][0-9]{0,13}\*\z/

  # Most fields are numbers: this is several times as quick as a regular expression.
  defp number?(<<"+", first, rest::binary>>) when first in ?1..?9,
    do: byte_size(rest) in 3..14 and digits?(rest)

  defp number?(_field), do: false

  defp digits?(<<digit, rest::binary>>) when digit in ?0..?9, do: digits?(rest)
  defp digits?(rest), do: rest == ""

  # Short, and in plain ASCII whatever the log holds.
  defp show(field) do
    shown = field |> binary_part(0, min(byte_size(field), 30)) |> String.replace(~r/[^ -~]/, "?")
    inspect(shown)
  end
end
