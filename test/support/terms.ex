defmodule Terms do
  @moduledoc """
  Terms for ids: random ones, near misses of them, and copies that share no memory with them.

  The random ones come from the calling process's `:rand`, so they are the same for the same seed.
  """

  import Bitwise

  @doc "An equal term that was taken apart and put together again."
  def copy(term), do: term |> :erlang.term_to_binary() |> :erlang.binary_to_term()

  @doc "A pid of a node that there is not."
  def external_pid(number \\ 1, node \\ "other@nowhere") do
    external(88, node, <<number::32, 2::32, 3::32>>)
  end

  @doc "A port of a node that there is not."
  def external_port(number \\ 1), do: external(89, "other@nowhere", <<number::32, 3::32>>)

  @doc "A reference of a node that there is not."
  def external_reference(number \\ 1) do
    node = atom("other@nowhere")
    :erlang.binary_to_term(<<131, 90, 3::16, node::binary, 7::32, number::32, 2::32, 1::32>>)
  end

  defp external(tag, node, rest) do
    :erlang.binary_to_term(<<131, tag, atom(node)::binary, rest::binary>>)
  end

  defp atom(name), do: <<119, byte_size(name), name::binary>>

  @doc "A closure over `value`; those over equal values are equal."
  def closure(value), do: fn -> value end

  @doc "Another closure, of the same kind of environment."
  def other_closure(value), do: fn -> {value} end

  @doc """
  Native records with these terms, one of them exported; none before OTP 29, which has no such terms.
  """
  def native_records(terms) do
    fields = Enum.with_index(terms, fn term, index -> {:"field_#{index}", term} end)
    names = for {field, _} <- fields, do: atom(Atom.to_string(field))

    for exported <- [0, 1], Code.ensure_loaded?(:records) do
      empty = List.duplicate(<<106>>, length(fields))

      head =
        <<131, 67, length(fields)::32, exported, atom("no_module")::binary, atom("name")::binary>>

      record = :erlang.binary_to_term(IO.iodata_to_binary([head, names, empty]))
      # The external format would write what the terms share as often as it is met.
      apply(:records, :update, [record, :no_module, :name, Map.new(fields)])
    end
  end

  @doc "A term of every kind that this OTP can make, and of every form that one is known to have."
  def zoo do
    native_records([]) ++
      native_records([1, "binary", [1 <<< 70]]) ++
      [
        7,
        -(1 <<< 59),
        1 <<< 59,
        1 <<< 63,
        -(1 <<< 64),
        1 <<< 2039,
        -(1 <<< 2040),
        1 <<< 3000,
        0.5,
        :atom,
        nil,
        [],
        {},
        %{},
        "",
        "heap binary",
        :binary.copy("reference-counted", 10),
        binary_part(:binary.copy("part", 30), 3, 70),
        part("not at a byte's border"),
        <<1::1>>,
        <<0::size(1_001)>>,
        &String.length/1,
        Function.capture(No.Such, :function, 3),
        closure([1, make_ref()]),
        closure(&closure/1),
        make_ref(),
        :erlang.alias(),
        Process.monitor(self()),
        :ets.new(:table, []),
        :atomics.new(1, []),
        external_reference(),
        self(),
        external_pid(),
        hd(Port.list()),
        external_port(),
        [1, 2 | 3],
        ~c"list",
        {:user, 7},
        Map.new(1..3, &{&1, &1}),
        Map.new(1..50, &{&1, &1})
      ]
  end

  @doc "A term inside of each kind of container, at each kind of place."
  def contained(term) do
    native_records([term, :other]) ++
      [
        {term},
        {:user, term},
        {term, "binary"},
        Tuple.duplicate(term, 10),
        [term],
        [:element, term],
        [:element | term],
        [term | term],
        %{term => 1},
        %{user: term},
        Map.put(Map.new(1..40, &{&1, &1}), term, 1),
        Map.new(1..40, &{&1, term}),
        {"binary", [%{[term] => {term}}]},
        nest(term, :tuple, 40),
        nest(term, :key, 40),
        closure(term),
        {:user, closure({term})}
      ]
  end

  @doc "`levels` of tuples, lists or maps around a term."
  def nest(term, _kind, 0), do: term
  def nest(term, :tuple, levels), do: nest({term}, :tuple, levels - 1)
  def nest(term, :pair, levels), do: nest({:level, term}, :pair, levels - 1)
  def nest(term, :list, levels), do: nest([term], :list, levels - 1)
  def nest(term, :tail, levels), do: nest([:level | term], :tail, levels - 1)
  def nest(term, :map, levels), do: nest(%{level: term}, :map, levels - 1)
  def nest(term, :key, levels), do: nest(%{term => :level}, :key, levels - 1)

  ## Random terms

  @doc "Any term."
  def random(size \\ 3)
  def random(0), do: leaf()

  def random(size) do
    case :rand.uniform(10) do
      n when n <= 4 -> leaf()
      n when n <= 6 -> List.to_tuple(several(size))
      7 -> {pick([:user, :guild, 7]), binary(61)}
      8 -> several(size)
      9 -> several(size) ++ leaf()
      10 -> Map.new(several(size), &{&1, random(size - 1)})
    end
  end

  defp several(size), do: tl(for(_ <- 1..:rand.uniform(6), do: random(size - 1)))

  @doc "A term without terms in it."
  def leaf do
    case :rand.uniform(14) do
      n when n <= 3 -> integer()
      4 -> pick([0.0, negative_zero(), 1.0, -1.0, 0.5, 1.0e300, 5.0e-324])
      5 -> (:rand.uniform() - 0.5) * 1000
      n when n <= 7 -> pick([nil, true, false, :a, :b, :"", :"Elixir.A", :user, :Ω])
      n when n <= 9 -> binary(70)
      10 -> bitstring()
      11 -> pick([[], {}, "", %{}, ~c"charlist", [0], <<0>>, <<0::1>>, [[]], {[]}, {{}}])
      12 -> pick([&String.length/1, &String.upcase/1, closure(:rand.uniform(4)), closure("a")])
      13 -> pick([external_pid(:rand.uniform(4)), external_port(), external_reference()])
      14 -> pick([self(), Process.whereis(:init), hd(Port.list()), hd(Enum.reverse(Port.list()))])
    end
  end

  @doc "The zero that is written with a minus."
  def negative_zero do
    <<zero::float>> = <<1::1, 0::63>>
    zero
  end

  defp integer do
    border = pick([0, 0, 0, 7, 27, 31, 32, 58, 59, 60, 62, 63, 64, 65, 127, 128, 300])
    pick([1, -1]) * ((1 <<< border) + :rand.uniform(5) - 3)
  end

  defp binary(below), do: :rand.bytes(:rand.uniform(below) - 1)

  defp bitstring do
    bits = :rand.bytes(5)
    <<bits::bitstring-size(:rand.uniform(40))>>
  end

  defp pick(list), do: Enum.at(list, :rand.uniform(length(list)) - 1)

  ## Terms that are almost the same

  @doc "A term that differs from this one in one place and only a little, or not at all."
  def mutate(tuple) when is_tuple(tuple) and tuple != {} do
    case :rand.uniform(6) do
      1 -> Tuple.to_list(tuple)
      2 -> :erlang.append_element(tuple, leaf())
      _ -> tuple |> Tuple.to_list() |> mutate_one() |> List.to_tuple()
    end
  end

  def mutate([head | tail] = list) when is_list(tail) do
    case {:rand.uniform(7), proper?(list)} do
      {1, true} -> List.to_tuple(list)
      {2, true} -> list ++ :improper
      {3, true} -> list ++ [leaf()]
      {4, true} -> Enum.reverse(list)
      {5, _} -> [head | mutate(tail)]
      {_, true} -> mutate_one(list)
      {_, false} -> [mutate(head) | tail]
    end
  end

  def mutate([head | tail]), do: pick([[head], [head, tail], {head, tail}, [head | mutate(tail)]])

  def mutate(map) when is_map(map) and map_size(map) > 0 do
    pairs = Map.to_list(map)

    case :rand.uniform(6) do
      # Equal, though put together in another order.
      n when n <= 2 ->
        Enum.reduce(Enum.shuffle(pairs), %{}, fn {k, v}, map -> Map.put(map, k, v) end)

      3 ->
        pairs

      4 ->
        Map.delete(map, elem(pick(pairs), 0))

      5 ->
        pairs |> Enum.map(fn {key, value} -> {value, key} end) |> Map.new()

      6 ->
        pairs |> mutate_one() |> Enum.filter(&match?({_, _}, &1)) |> Map.new()
    end
  end

  def mutate(integer) when is_integer(integer) do
    pick([
      integer + 1,
      -integer,
      bxor(integer, 1 <<< pick([0, 8, 59, 60, 63, 64])),
      Integer.to_string(integer),
      if(abs(integer) < 1 <<< 500, do: integer * 1.0, else: 0.0)
    ])
  end

  def mutate(float) when is_float(float) do
    <<bits::64>> = <<float::float>>
    <<next::float>> = <<bxor(bits, 1)::64>>

    # Copied, because OTP 25 has two integers that print as -576460752303423488, one from `trunc/1`.
    pick([-float, copy(trunc(float)), next, <<bits::64>>])
  end

  def mutate(atom) when is_atom(atom),
    do: pick([Atom.to_string(atom), Atom.to_charlist(atom), [], nil])

  def mutate(binary) when is_binary(binary) and binary != "" do
    bits = <<binary::bitstring-size(bit_size(binary) - 1)>>

    pick([
      bits,
      <<bits::bitstring, 0::1>>,
      <<bits::bitstring, 1::1>>,
      <<binary::binary, 0>>,
      <<0, binary::binary>>,
      :binary.bin_to_list(binary),
      {:user, binary},
      {binary, :user},
      # Equal, but a part of another one, and that not at a byte's border.
      elem({<<5::3>>, part(binary)}, 1)
    ])
  end

  def mutate(bits) when is_bitstring(bits),
    do: pick([<<bits::bitstring, 0::1>>, <<0::1, bits::bitstring>>])

  def mutate(other), do: pick([{other}, [other], %{other => other}, copy(other), leaf()])

  @doc "An equal binary that is a part of another one, and does not begin where a byte does."
  def part(binary) do
    whole = copy(<<byte_size(binary)::32, 5::3, binary::binary, 0::5>>)
    <<size::32, 5::3, part::binary-size(size), 0::5>> = whole
    part
  end

  defp mutate_one(list) do
    List.update_at(list, :rand.uniform(length(list)) - 1, &mutate/1)
  end

  defp proper?(list), do: List.improper?(list) == false
end
