defmodule Denylist.Rules do
  @moduledoc """
  The rules of one phone number: whose calls it does not take.

  A rule is a number, `"+442079460123"`, or a prefix followed by a star, such as
  a country code: `"+44*"`.
  """

  @type phone_number :: String.t()
  @type rule :: String.t()
  @opaque t :: MapSet.t(rule)

  @doc "The given rules, or none."
  @spec new([rule]) :: t
  def new(rules \\ []), do: MapSet.new(rules)

  @doc "Adds a rule."
  @spec deny(t, rule) :: t
  def deny(rules, rule), do: MapSet.put(rules, rule)

  @doc "Takes a rule back. Other rules may still deny some of the same senders."
  @spec allow(t, rule) :: t
  def allow(rules, rule), do: MapSet.delete(rules, rule)

  @doc """
  Whether the sender may call.

  Looks for the sender and for each of its prefixes among the rules: the same few
  steps however many rules there are.
  """
  @spec allow?(t, phone_number) :: boolean
  def allow?(rules, sender) do
    MapSet.size(rules) == 0 or
      not (MapSet.member?(rules, sender) or prefix_denied?(rules, sender))
  end

  @doc "The rules in order, to be stored or shown."
  @spec to_list(t) :: [rule]
  def to_list(rules), do: Enum.sort(rules)

  defp prefix_denied?(rules, sender) do
    Enum.any?(1..byte_size(sender), fn length ->
      MapSet.member?(rules, binary_part(sender, 0, length) <> "*")
    end)
  end
end
