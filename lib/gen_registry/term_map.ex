defmodule GenRegistry.TermMap do
  @moduledoc false
  # A map that takes any terms as keys. A map of the VM does not take all references of other nodes that
  # there can be in the external term format: some end the VM, for their hashes collide without end, and
  # some have different hashes although they are `===`. So keys that may have a reference in them are
  # found by `:erlang.phash2/1`, and compared.

  alias GenRegistry.Native

  defstruct plain: %{}, others: %{}, count: 0

  @typedoc "`others` has lists of keys and values by the hashes of the keys; `count` is of these."
  @type t(value) :: %__MODULE__{
          plain: %{term => value},
          others: %{non_neg_integer => [{key :: term, value}]},
          count: non_neg_integer
        }

  @doc "There is nothing in it."
  @spec new :: t(term)
  def new, do: %__MODULE__{}

  @doc "How many keys there are."
  @spec size(t(term)) :: non_neg_integer
  def size(%{plain: plain, count: count}) when is_integer(count), do: map_size(plain) + count

  @doc "All values, in no order."
  @spec values(t(value)) :: [value] when value: term
  def values(map) do
    Map.values(map.plain) ++ for {_, pairs} <- map.others, {_key, value} <- pairs, do: value
  end

  @doc "The value of a key."
  @spec fetch(t(value), term) :: {:ok, value} | :error when value: term
  def fetch(map, key) do
    case hash(key) do
      nil -> Map.fetch(map.plain, key)
      hash -> map.others |> Map.get(hash, []) |> find(key)
    end
  end

  @doc "The value of a key that is there."
  @spec fetch!(t(value), term) :: value when value: term
  def fetch!(map, key) do
    {:ok, value} = fetch(map, key)
    value
  end

  @doc "Whether a key is there."
  @spec has_key?(t(term), term) :: boolean
  def has_key?(map, key), do: fetch(map, key) != :error

  @doc "Puts in a value, in place of what the key has."
  @spec put(t(value), term, value) :: t(value) when value: term
  def put(map, key, value) do
    case hash(key) do
      nil -> %{map | plain: Map.put(map.plain, key, value)}
      hash -> put(map, hash, key, value)
    end
  end

  defp put(map, hash, key, value) do
    map = delete(map, hash, key)
    others = Map.update(map.others, hash, [{key, value}], &[{key, value} | &1])
    %{map | others: others, count: map.count + 1}
  end

  @doc "Takes out a key, if it is there."
  @spec delete(t(value), term) :: t(value) when value: term
  def delete(%__MODULE__{} = map, key) do
    case hash(key) do
      nil -> %{map | plain: Map.delete(map.plain, key)}
      hash -> delete(map, hash, key)
    end
  end

  defp delete(%__MODULE__{} = map, hash, key) do
    there = Map.get(map.others, hash, [])

    case Enum.reject(there, fn {other, _value} -> other === key end) do
      ^there -> map
      [] -> %{map | others: Map.delete(map.others, hash), count: map.count - 1}
      rest -> %{map | others: Map.put(map.others, hash, rest), count: map.count - 1}
    end
  end

  defp find([{key, value} | _rest], key), do: {:ok, value}
  defp find([_other | rest], key), do: find(rest, key)
  defp find([], _key), do: :error

  # `nil` for a key that the VM's maps take.
  defp hash(key) when is_integer(key) or is_atom(key) or is_binary(key), do: nil
  defp hash(key), do: if(Native.refers?(key), do: :erlang.phash2(key))
end
