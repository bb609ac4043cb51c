defmodule GenRegistry.Overview do
  @moduledoc false
  # What a registry tells of itself. To those who ask it as a supervisor, its workers are children, and
  # its guests are not.

  alias GenRegistry.{Earlier, Endings, Schedule, Shutdown, Starters, Table}

  @doc """
  What answers a question of a server, apart from it, from its state now: as `GenRegistry.info/1`,
  `Supervisor.which_children/1` or `:supervisor.count_children/1`.
  """
  @spec answer(:info | :which_children | :count_children, struct) :: fun
  def answer(:info, state) do
    info = info(state)
    %{name: name, worker_module: module, table: table} = state

    fn ->
      update_in(info.options[:worker_shutdown], fn
        :default ->
          if type(name, module, table) == :supervisor,
            do: :infinity,
            else: Shutdown.milliseconds(:default)

        given ->
          given
      end)
    end
  end

  def answer(question, %{name: name, worker_module: module, table: table}) do
    case question do
      :which_children -> fn -> which_children(name, module, table) end
      :count_children -> fn -> count_children(name, module, table) end
    end
  end

  # All of it is kept as counts.
  defp info(state) do
    {in_flight, queued} = Schedule.counts(state.schedule)
    stopping = Endings.count(state.endings) + map_size(state.clearing)
    {started, ended, idle} = Table.ever(state.table)
    waiting = Endings.left(state.endings) + length(Enum.concat(Map.values(state.left)))

    %{
      worker_module: state.worker_module,
      count: Table.count(state.name),
      starting: in_flight - queued - stopping - waiting,
      stopping: stopping + Earlier.count(state.table),
      queued: queued,
      started: started,
      failed: state.failed,
      refused: state.refused,
      ended: ended,
      ended_idle: idle,
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

  defp which_children(name, module, table) do
    type = type(name, module, table)

    Table.reduce_children(name, [], fn entries, children ->
      for {id, pid} <- entries, reduce: children do
        children -> [{id, pid, type, [module]} | children]
      end
    end)
  end

  defp count_children(name, module, table) do
    count = Table.count_children(name)
    supervisors = if type(name, module, table) == :supervisor, do: count, else: 0
    [specs: count, active: count, supervisors: supervisors, workers: count - supervisors]
  end

  # A supervisor says so in its initial call. One worker speaks for all: they are started alike.
  defp type(name, module, table) do
    with {_id, pid} <- Table.sample(name),
         # A guest says nothing of them.
         true <- Table.known?(table, pid),
         true <- Shutdown.supervisor?(pid) do
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
