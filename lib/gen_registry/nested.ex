defmodule GenRegistry.Nested do
  @moduledoc false
  # Finds out in the start of which worker the calling process is: in its `start_link`, in its init, or
  # in a process that one of these spawned, or in a task of theirs. What such a process asks for is
  # nested in that start, which may wait for it.

  alias GenRegistry.Table

  @doc """
  The starter that runs the start in which the calling process is, or `nil`, which may be of any registry;
  and on behalf of which process it waits: of that, of itself if it is being stopped, or of none (`nil`).
  """
  @spec busy :: {starter :: pid | nil, by :: pid | nil}
  def busy do
    ancestors = ancestors()

    case Table.starter_among([self() | ancestors]) do
      # Usual callers need nothing else.
      :idle -> {nil, nil}
      :ending -> {nil, self()}
      nil -> same(starter_beyond(ancestors))
      starter -> same(joined(starter, [self() | ancestors]))
    end
  end

  defp same(starter), do: {starter, starter}

  # A process that was spawned bare does not know its ancestors, and those of a task are not its
  # callers.
  defp starter_beyond(ancestors) do
    (ancestors == [] && starter_above(parent(self()), [self()])) ||
      Enum.find_value(callers(), &starter_above(&1, [self()]))
  end

  defp starter_above(nil, _way), do: nil

  defp starter_above(pid, way) do
    way = way ++ [pid]

    case Table.starter_among(way) do
      none when none in [nil, :ending] -> starter_above(parent(pid), way)
      :idle -> nil
      starter -> joined(starter, way)
    end
  end

  # A process that an earlier start left behind without a link is in none.
  defp joined(starter, way) do
    case Enum.take_while(way, &(&1 != starter)) do
      [] -> starter
      below -> if joined?(List.last(below), starter), do: starter
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
