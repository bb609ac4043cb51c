defmodule GenRegistry.Children do
  @moduledoc false
  # A registry as those see it who ask a supervisor: its workers are children, its guests are not.

  alias GenRegistry.Table

  @doc "As `Supervisor.which_children/1`."
  @spec which(GenRegistry.name(), module, Table.t()) :: [
          {term, pid, :worker | :supervisor, [module]}
        ]
  def which(name, module, table) do
    type = type(name, module, table)

    Table.reduce_children(name, [], fn entries, children ->
      for {id, pid} <- entries, reduce: children do
        children -> [{id, pid, type, [module]} | children]
      end
    end)
  end

  @doc "As `:supervisor.count_children/1`."
  @spec count(GenRegistry.name(), module, Table.t()) :: [{atom, non_neg_integer}]
  def count(name, module, table) do
    count = Table.count_children(name)
    supervisors = if type(name, module, table) == :supervisor, do: count, else: 0
    [specs: count, active: count, supervisors: supervisors, workers: count - supervisors]
  end

  # A supervisor says so in its initial call. One worker speaks for all: they are started alike.
  defp type(name, module, table) do
    with {_id, pid} <- Table.sample(name),
         # A guest says nothing of them.
         true <- Table.known?(table, pid),
         {:dictionary, dictionary} <- Process.info(pid, :dictionary),
         {:supervisor, _, _} <- dictionary[:"$initial_call"] do
      :supervisor
    else
      _ -> if supervisor?(module), do: :supervisor, else: :worker
    end
  end

  defp supervisor?(module) do
    behaviours = for {:behaviour, behaviours} <- module.module_info(:attributes), do: behaviours

    module in [:supervisor, Supervisor, DynamicSupervisor, PartitionSupervisor] or
      Enum.any?(List.flatten(behaviours), &(&1 in [:supervisor, Supervisor, DynamicSupervisor]))
  end
end
