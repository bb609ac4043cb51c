defmodule GenRegistry.Overview do
  @moduledoc false
  # What a registry tells of itself. To those who ask it as a supervisor, its workers are children, and
  # its guests are not.

  alias GenRegistry.{Endings, Schedule, Starters, Table}

  @doc "As `GenRegistry.info/1`, of a server's state. All of it is kept as counts."
  @spec info(struct) :: GenRegistry.info()
  def info(state) do
    {in_flight, queued} = Schedule.counts(state.schedule)
    stopping = Endings.count(state.endings) + map_size(state.clearing)

    %{
      worker_module: state.worker_module,
      count: Table.count(state.name),
      starting: in_flight - queued - stopping,
      stopping: stopping,
      queued: queued,
      starters: Starters.count(state.schedule.starters),
      memory: Table.memory(state.table),
      reclaiming: Table.reclaiming(),
      options: [
        max_children: state.max_children,
        max_starting: state.max_starting,
        worker_shutdown: state.worker_shutdown
      ]
    }
  end

  @doc "As `Supervisor.which_children/1`."
  @spec which_children(GenRegistry.name(), module, Table.t()) :: [
          {term, pid, :worker | :supervisor, [module]}
        ]
  def which_children(name, module, table) do
    type = type(name, module, table)

    Table.reduce_children(name, [], fn entries, children ->
      for {id, pid} <- entries, reduce: children do
        children -> [{id, pid, type, [module]} | children]
      end
    end)
  end

  @doc "As `:supervisor.count_children/1`."
  @spec count_children(GenRegistry.name(), module, Table.t()) :: [{atom, non_neg_integer}]
  def count_children(name, module, table) do
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
