defmodule GenRegistry.Nested do
  @moduledoc false
  # Finds out in the start of which worker the calling process is, or in whose end: in its `start_link`,
  # in its init, in its `terminate/2`, in a process that one of these spawned, or in a task of theirs. What
  # such a process asks for is nested in that, which may wait for it.

  alias GenRegistry.{Table, Waits}

  @doc """
  The starter that runs the start in which the calling process is, of any registry, or which has died in
  that; or the worker in whose end it is; or `nil`.
  """
  @spec in_which :: pid | nil
  def in_which do
    ancestors = ancestors()

    case busy_among([self() | ancestors]) do
      # Usual callers need nothing else.
      :idle -> nil
      nil -> beyond(ancestors)
      busy -> busy
    end
  end

  # A process that was spawned bare does not know its ancestors, and those of a task are not its
  # callers.
  defp beyond(ancestors) do
    (ancestors == [] && above(parent(self()), [self()])) ||
      Enum.find_value(callers(), &above(&1, [self()]))
  end

  defp above(nil, _way), do: nil

  defp above(pid, way) do
    way = way ++ [pid]

    case busy_among(way) do
      :idle -> nil
      nil -> above(parent(pid), way)
      busy -> busy
    end
  end

  defp busy_among(way) do
    case Waits.busy_among(way) do
      {:ending, worker} -> worker
      # All that it has spawned is to end.
      {:died, starter} -> in_start(starter, way, &(parent(&1) == starter))
      starter when is_pid(starter) -> in_start(starter, way, &joined?(&1, starter))
      none -> none
    end
  end

  # A process that an earlier start left behind without a link is in none.
  defp in_start(starter, way, in?) do
    case Enum.take_while(way, &(&1 != starter)) do
      [] -> starter
      below -> if in?.(List.last(below)), do: starter
    end
  end

  # After a start a starter has links to workers, and no monitors but for that of the event process. So
  # one that it monitors is of this start, as are those that this one looks after: so streams of tasks do.
  defp joined?(pid, starter) do
    with [links: links, monitored_by: watchers] <- Process.info(pid, [:links, :monitored_by]),
         false <- starter in links,
         {:monitors, monitors} <- Process.info(starter, :monitors) do
      Enum.any?([pid | links ++ watchers], &({:process, &1} in monitors))
    else
      nil -> false
      true -> true
    end
  end

  defp ancestors, do: :"$ancestors" |> Process.get() |> pids()

  defp callers, do: :"$callers" |> Process.get() |> pids()

  # A process may have put in what it likes.
  defp pids(list) when length(list) >= 0,
    do: for(entry <- list, pid = pid(entry), Table.local?(pid), do: pid)

  defp pids(_no_list), do: []

  # Processes with names leave these to those that they start.
  defp pid(name) when is_atom(name), do: Process.whereis(name)
  defp pid(pid), do: pid

  defp parent(pid) do
    case Process.info(pid, :parent) do
      {:parent, parent} when is_pid(parent) -> if Table.local?(parent), do: parent
      _ -> nil
    end
  end
end
