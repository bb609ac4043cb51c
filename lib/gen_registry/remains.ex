defmodule GenRegistry.Remains do
  @moduledoc false
  # A start that failed leaves no process of its own: they end as workers do that are stopped, and a start of
  # the id waits for them. Functions run in the starter.

  alias GenRegistry.{Deadline, Server, Starter, Table}

  # How long they are waited for before it is told of the failure, in milliseconds. Most are gone by then:
  # then so is the failure's room for whoever is told.
  @patience 100

  @doc """
  Has what a start left end, of those that this process is linked to since. Returns those that are still there.
  Their ends may take a while.
  """
  @spec end_all(Table.t(), server :: pid, Starter.result(), links :: [pid | port]) :: [pid]
  def end_all(table, server, {:not_registered, {:already_started, _}, pid}, _links) do
    if Table.refuse(table, pid, self()) do
      Server.refused(server, pid, self())
      [pid]
    else
      []
    end
  end

  def end_all(table, server, result, links) when elem(result, 0) in [:failed, :raised] do
    ours =
      for pid <- links,
          is_pid(pid),
          parent(pid) == self(),
          # A guest keeps its id until it has ended.
          Table.refuse(table, pid, self()) or Table.track(table, pid, self()),
          do: {Process.monitor(pid), pid}

    for {_monitor, pid} <- ours do
      Process.exit(pid, :shutdown)
      Server.refused(server, pid, self())
    end

    deadline = Deadline.after_timeout(@patience)
    for {monitor, pid} <- ours, not down?(monitor, deadline), do: pid
  end

  def end_all(_table, _server, _result, _links), do: []

  defp down?(monitor, deadline) do
    receive do
      {:DOWN, ^monitor, _, _, _} -> true
    after
      Deadline.left(deadline) -> not Process.demonitor(monitor, [:flush, :info])
    end
  end

  @doc "Who spawned a process, as far as that is known here."
  @spec parent(pid) :: pid | nil | :undefined
  def parent(pid) do
    with true <- Table.local?(pid), {:parent, parent} <- Process.info(pid, :parent) do
      parent
    else
      _ -> nil
    end
  end
end
