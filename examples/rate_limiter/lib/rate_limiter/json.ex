defmodule RateLimiter.Json do
  @moduledoc """
  As much JSON as the answers need: maps, lists, texts, whole numbers, `true`, `false`
  and `nil`.

      iex> IO.iodata_to_binary(RateLimiter.Json.encode(%{id: ~S("a"), tokens: [1, nil]}))
      ~S({"id":"\\"a\\"","tokens":[1,null]})
  """

  @type value :: %{optional(atom) => value} | [value] | String.t() | integer | boolean | nil

  @doc "The value as JSON. A text must be UTF-8."
  @spec encode(value) :: iodata
  def encode(map) when is_map(map) do
    # In the same order on every OTP.
    pairs = for {key, value} <- Enum.sort(map), do: [encode("#{key}"), ":", encode(value)]
    ["{", Enum.intersperse(pairs, ","), "}"]
  end

  def encode(list) when is_list(list) do
    ["[", list |> Enum.map(&encode/1) |> Enum.intersperse(","), "]"]
  end

  def encode(nil), do: "null"
  def encode(value) when is_integer(value) or is_boolean(value), do: to_string(value)
  def encode(text) when is_binary(text), do: ["\"", for(<<c::utf8 <- text>>, do: char(c)), "\""]

  defp char(?"), do: "\\\""
  defp char(?\\), do: "\\\\"

  defp char(control) when control < 0x20 do
    ["\\u", control |> Integer.to_string(16) |> String.pad_leading(4, "0")]
  end

  defp char(char), do: <<char::utf8>>
end
