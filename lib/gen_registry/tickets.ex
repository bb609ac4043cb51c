defmodule GenRegistry.Tickets do
  @moduledoc false
  # A map from tickets to values that knows the smallest ticket. As tickets count up, a single tree
  # would now and then be balanced anew as a whole: so there is one for each some hundred of them,
  # and one of these.

  @block 512

  @opaque t :: {size :: non_neg_integer, :gb_trees.tree(integer, :gb_trees.tree(ticket, term))}
  @type ticket :: non_neg_integer

  @doc "There are none."
  @spec new :: t
  def new, do: {0, :gb_trees.empty()}

  @doc "How many there are."
  @spec size(t) :: non_neg_integer
  def size({size, _blocks}), do: size

  @doc "Puts in a ticket that is not there."
  @spec put(t, ticket, term) :: t
  def put({size, blocks}, ticket, value) do
    key = div(ticket, @block)

    blocks =
      case :gb_trees.lookup(key, blocks) do
        {:value, block} -> :gb_trees.update(key, :gb_trees.insert(ticket, value, block), blocks)
        :none -> :gb_trees.insert(key, :gb_trees.insert(ticket, value, :gb_trees.empty()), blocks)
      end

    {size + 1, blocks}
  end

  @doc "The value of a ticket that is there."
  @spec get(t, ticket) :: term
  def get({_size, blocks}, ticket) do
    :gb_trees.get(ticket, :gb_trees.get(div(ticket, @block), blocks))
  end

  @doc "The smallest ticket, with its value."
  @spec first(t) :: {ticket, term} | nil
  def first({0, _blocks}), do: nil

  def first({_size, blocks}) do
    {_key, block} = :gb_trees.smallest(blocks)
    :gb_trees.smallest(block)
  end

  @doc "Takes a ticket out, if it is there."
  @spec delete(t, ticket) :: t
  def delete({size, blocks} = tickets, ticket) do
    key = div(ticket, @block)

    with {:value, block} <- :gb_trees.lookup(key, blocks),
         true <- :gb_trees.is_defined(ticket, block) do
      block = :gb_trees.delete(ticket, block)

      if :gb_trees.is_empty(block),
        do: {size - 1, :gb_trees.delete(key, blocks)},
        else: {size - 1, :gb_trees.update(key, block, blocks)}
    else
      _ -> tickets
    end
  end

  @doc "The tickets below this one, or all for `:infinity`, in order. Takes no time for the others."
  @spec below(t, ticket | :infinity) :: [ticket]
  def below({_size, blocks}, limit),
    do: below(:gb_trees.next(:gb_trees.iterator(blocks)), limit, [])

  # A number is less than an atom.
  defp below({key, block, rest}, limit, below) when key * @block < limit do
    tickets = :gb_trees.keys(block)
    below(:gb_trees.next(rest), limit, [Enum.take_while(tickets, &(&1 < limit)) | below])
  end

  defp below(_none_or_beyond, _limit, below), do: below |> Enum.reverse() |> Enum.concat()
end
