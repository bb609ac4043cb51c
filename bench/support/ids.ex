defmodule Bench.Ids do
  @moduledoc false
  # Ids of the shapes that people use.

  def shapes do
    [
      {"integer", & &1},
      {"snowflake", &(0x1000_0000_0000_0000 + &1 * 4_194_304)},
      {"atom", &:"atom_#{&1}"},
      {"11-byte string", &("+1555" <> String.pad_leading("#{&1}", 6, "0"))},
      {"UUID", &uuid/1},
      {"{:user, int}", &{:user, &1}},
      {"{:user, string}", &{:user, "name#{&1}"}},
      {"{int, int, int}", &{&1, &1 + 1, &1 + 2}},
      {"small map", &%{guild: &1, user: &1 * 7}}
    ]
  end

  def shape(name), do: Map.fetch!(Map.new(shapes()), name)

  # 36 bytes.
  defp uuid(n) do
    <<a::binary-8, b::binary-4, c::binary-4, d::binary-4, e::binary-12>> =
      :crypto.hash(:md5, <<n::64>>) |> Base.encode16(case: :lower)

    Enum.join([a, b, c, d, e], "-")
  end

  @doc "At most `count` of these numbers' ids, in random order, written so that readers make their own."
  def probes(make, numbers, count) do
    :rand.seed(:exsss, 4)
    numbers |> Enum.take_random(count) |> Enum.map(make) |> :erlang.term_to_binary()
  end
end
