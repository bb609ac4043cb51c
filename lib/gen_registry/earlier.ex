defmodule GenRegistry.Earlier do
  @moduledoc false
  # Registries of a name that have ended, and have left workers or starts that are under way. The next one
  # serves at once. What they have left is as if it were being stopped there: hidden from reads, found by
  # `lookup_id`; a start of an id waits for what has that id, and whoever asks for it orders its end. Their
  # sweepers end the rest.

  alias GenRegistry.{Native, Sealed, Sweeper, Table}

  @typedoc "What has an id: a worker, with its parent, or the start that a starter runs, or died in."
  @type left :: {pid, Table.parent()} | {:starter, pid}

  @doc """
  Takes the guests of earlier registries over into a table, and notes what else they have left. From now
  on they begin nothing.
  """
  @spec take_over(Table.t()) :: :ok
  def take_over(table) do
    Native.note_busy(table)
    for earlier <- Native.earlier(table), do: take_guests(table, earlier, 0)
    :ok
  end

  defp take_guests(table, earlier, cursor) do
    {guests, next} = Native.scan_guests(earlier, cursor)
    for {id, pid} <- guests, do: take_guest(table, earlier, id, pid)
    if next != :done, do: take_guests(table, earlier, next)
  end

  defp take_guest(table, earlier, id, pid) do
    if starter = own_starter(table, id, pid) do
      # It took its name in its own start, which is not over.
      Table.track(earlier, pid, starter)
    else
      Table.register(table, id, pid, pid)
      # If it left meanwhile, or turned out to be a worker.
      unless release(earlier, id), do: release(table, id)
    end
  end

  defp own_starter(table, id, pid) do
    with {:starter, starter} <- find(table, id),
         {:parent, ^starter} <- Process.info(pid, :parent) do
      starter
    else
      _ -> nil
    end
  end

  defp release(table, id) do
    with :sealed <- Native.release_own(table, id), do: release(table, Sealed.measured(id))
  end

  @doc "What has an id: `:none` says that nothing of earlier registries is left at all."
  @spec find(Table.t(), term) :: left | :not_found | :none
  def find(table, id) do
    with :sealed <- Native.left(table, id), do: find(table, Sealed.measured(id))
  end

  @doc "How many workers and starts are left."
  @spec count(Table.t()) :: non_neg_integer
  def count(table), do: Native.count_left(table)

  @doc "The tables of those that are not gone."
  @spec tables(Table.t()) :: [Table.key()]
  def tables(table), do: Native.earlier(table)

  @doc "The sweeper of an earlier registry: its own, or another one if that is dead; or `nil` if it is gone."
  @spec sweeper(GenRegistry.name(), Table.key(), GenRegistry.Shutdown.time()) :: pid | nil
  def sweeper(name, earlier, time) do
    Table.sweeper(earlier) || Sweeper.start(name, earlier, time, nil)
  end

  @doc "Waits until nothing of earlier registries is left."
  @spec await(GenRegistry.name(), Table.t(), GenRegistry.Shutdown.time()) :: :ok
  def await(name, table, time) do
    sweepers = for earlier <- tables(table), pid = sweeper(name, earlier, time), do: pid
    monitors = Enum.map(sweepers, &Process.monitor/1)
    downs = for monitor <- monitors, do: receive(do: ({:DOWN, ^monitor, _, _, reason} -> reason))
    if Enum.all?(downs, &(&1 == :normal)), do: :ok, else: await(name, table, time)
  end

  @doc "The start in which a starter was is over: its registry is, and somebody may wait for it."
  @spec start_is_over(GenRegistry.name(), starter :: pid) :: :ok
  def start_is_over(name, starter) do
    if server = Table.owner(name), do: send(server, {:left_gone, starter})
    :ok
  end
end
