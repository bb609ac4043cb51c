defmodule Denylist.Store do
  @moduledoc """
  The rules of all numbers, in an Mnesia table on disc.

  Each number's row is read and written by that number's own process only, of
  which the registry keeps at most one. So the quick dirty operations are safe:
  there is nobody to race with, and no transaction is needed.
  """

  alias Denylist.Rules

  @table :denylist_rules

  @doc "Opens the table, and makes it and its directory if this is the first time."
  @spec open() :: :ok
  def open do
    File.mkdir_p!(:mnesia.system_info(:directory))
    done(:mnesia.change_table_copy_type(:schema, node(), :disc_copies))
    done(:mnesia.create_table(@table, attributes: [:number, :rules], disc_copies: [node()]))
    :ok = :mnesia.wait_for_tables([@table], :infinity)
  end

  @doc "The stored rules of a number."
  @spec load(Rules.phone_number()) :: Rules.t()
  def load(number) do
    case :mnesia.dirty_read(@table, number) do
      [{@table, ^number, rules}] -> Rules.new(rules)
      [] -> Rules.new()
    end
  end

  @doc "Stores the rules of a number in place of those stored before."
  @spec save(Rules.phone_number(), Rules.t()) :: :ok
  def save(number, rules) do
    case Rules.to_list(rules) do
      [] -> :mnesia.dirty_delete(@table, number)
      rules -> :mnesia.dirty_write({@table, number, rules})
    end
  end

  @doc "How many numbers have stored rules, and how many rules that is."
  @spec size() :: {non_neg_integer, non_neg_integer}
  def size do
    count = fn {@table, _number, rules}, {numbers, all} -> {numbers + 1, all + length(rules)} end
    {:atomic, size} = :mnesia.transaction(fn -> :mnesia.foldl(count, {0, 0}, @table) end)
    size
  end

  defp done({:atomic, :ok}), do: :ok
  defp done({:aborted, reason}) when elem(reason, 0) == :already_exists, do: :ok
end
