defmodule GenRegistry.TermMapTest do
  use ExUnit.Case, async: true

  alias GenRegistry.TermMap

  # References of another node with these numbers, as the external term format may have them.
  defp reference(numbers) do
    _ = :a@b
    words = for number <- numbers, into: <<>>, do: <<number::32>>
    :erlang.binary_to_term(<<131, 90, length(numbers)::16, 119, 3, "a@b", 1::32, words::binary>>)
  end

  test "it is a map, whatever the keys are" do
    keys = Enum.to_list(1..50) ++ Enum.map(Zoo.terms(), fn {_name, term} -> term end)
    keys = Enum.uniq_by(keys, &:erlang.term_to_binary/1)

    {map, list} =
      for key <- keys, reduce: {TermMap.new(), []} do
        {map, list} ->
          list = [{key, make_ref()} | Enum.reject(list, fn {other, _} -> other === key end)]
          {TermMap.put(map, key, list |> hd() |> elem(1)), list}
      end

    assert TermMap.size(map) == length(list)
    for {key, value} <- list, do: assert(TermMap.fetch(map, key) == {:ok, value})

    for {key, _value} <- list, reduce: map do
      map ->
        assert TermMap.has_key?(map, key)
        map = TermMap.delete(map, key)
        assert TermMap.fetch(map, key) == :error
        assert TermMap.delete(map, key) == map
        map
    end
    |> then(&assert(&1 == TermMap.new()))
  end

  # In a map of the VM with more than 32 keys, the first two end the VM, and the others are two.
  test "references with more numbers than usual, or fewer" do
    for wrap <- [& &1, &{&1}, &[&1], &%{key: &1}, &Terms.closure/1] do
      map = Enum.reduce(1..50, TermMap.new(), &TermMap.put(&2, &1, &1))
      [one, other] = for numbers <- [[1, 2, 3], [1, 2, 3, 4, 5]], do: wrap.(reference(numbers))
      map = map |> TermMap.put(one, :one) |> TermMap.put(other, :other)
      assert TermMap.fetch!(map, one) == :one
      assert TermMap.fetch!(map, other) == :other

      [short, long] = for numbers <- [[1], [1, 0]], do: wrap.(reference(numbers))
      map = map |> TermMap.put(short, :short) |> TermMap.put(long, :long)
      assert TermMap.fetch!(map, short) == if(short === long, do: :long, else: :short)
    end
  end
end
