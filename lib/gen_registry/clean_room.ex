defmodule GenRegistry.CleanRoom do
  @moduledoc false
  # Undoes what a worker's `start_link` did to the process that ran it, so that the next one finds it
  # as a new process. What cannot be undone is named, and the process takes no more starts.

  # What a process can set for itself, and what a starter has.
  @flags [
    trap_exit: true,
    priority: :normal,
    sensitive: false,
    save_calls: 0,
    error_handler: :error_handler,
    message_queue_data: :off_heap
  ]

  # These have the VM's defaults, which it was started with.
  @heap_flags [:max_heap_size, :min_heap_size, :min_bin_vheap_size, :fullsweep_after]

  @enforce_keys [:flags, :dictionary, :group_leader, :links, :monitors]
  defstruct @enforce_keys

  @typedoc "How the process was."
  @type t :: %__MODULE__{
          flags: [{atom, term}],
          dictionary: [{term, term}],
          group_leader: pid,
          links: [pid | port],
          monitors: [term]
        }

  @doc "Notes how the calling process is."
  @spec note :: t
  def note do
    {:garbage_collection, heap} = :erlang.process_info(self(), :garbage_collection)

    %__MODULE__{
      flags: @flags ++ Keyword.take(heap, @heap_flags) ++ distribution_flags(),
      dictionary: :erlang.get(),
      group_leader: :erlang.group_leader(),
      links: links(),
      monitors: monitors()
    }
  end

  # Not there on all OTPs.
  defp distribution_flags do
    [async_dist: :erlang.process_flag(:async_dist, false)]
  rescue
    ArgumentError -> []
  end

  @doc "Sets the flags as they were."
  @spec reset_flags(t) :: :ok
  def reset_flags(room) do
    for {flag, value} <- room.flags, do: :erlang.process_flag(flag, value)
    :ok
  end

  @doc "Makes flags, dictionary, group leader and registered name what they were."
  @spec restore(t) :: :ok
  def restore(room) do
    reset_flags(room)

    if :erlang.group_leader() != room.group_leader,
      do: :erlang.group_leader(room.group_leader, self())

    with {:registered_name, name} <- :erlang.process_info(self(), :registered_name),
         do: Process.unregister(name)

    if :erlang.get() !== room.dictionary do
      :erlang.erase()
      for {key, value} <- room.dictionary, do: :erlang.put(key, value)
    end

    :ok
  end

  @doc "The links that came since this was noted, whether monitors did, and how the process is now."
  @spec news(t) :: {links :: [pid | port], monitors? :: boolean, t}
  def news(room) do
    now = update(room)
    {added(now.links, room.links), added(now.monitors, room.monitors) != [], now}
  end

  @doc "From here on, the present links and monitors are no news."
  @spec update(t) :: t
  def update(room), do: %{room | links: links(), monitors: monitors()}

  defp links do
    {:links, links} = :erlang.process_info(self(), :links)
    links
  end

  defp monitors do
    {:monitors, monitors} = :erlang.process_info(self(), :monitors)
    monitors
  end

  # The VM lists both in one order, so the usual case is one pass.
  defp added(now, before), do: if(within?(now, before), do: [], else: now -- before)

  defp within?([same | now], [same | before]), do: within?(now, before)
  defp within?([], _before), do: true
  defp within?(_now, []), do: false
  defp within?(now, [_gone | before]), do: within?(now, before)
end
