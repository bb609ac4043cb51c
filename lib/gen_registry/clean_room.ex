defmodule GenRegistry.CleanRoom do
  @moduledoc false
  # Undoes what a worker's `start_link` did to the process that ran it, so that the next one finds it
  # as a new process. What cannot be undone is named, and the process takes no more starts.

  # What a process can set for itself, and what a starter has; but for `sensitive`, see `restore/2`.
  @flags [
    trap_exit: true,
    priority: :normal,
    save_calls: 0,
    error_handler: :error_handler,
    message_queue_data: :off_heap
  ]

  # These have the VM's defaults, which it was started with.
  @heap_flags [:max_heap_size, :min_heap_size, :min_bin_vheap_size, :fullsweep_after]

  @enforce_keys ~w(server flags dictionary group_leader links linked monitors monitored)a
  defstruct @enforce_keys

  @typedoc "How the process was."
  @type t :: %__MODULE__{
          server: pid,
          flags: [{atom, term}],
          dictionary: [{term, term}],
          group_leader: pid,
          links: [pid | port],
          linked: integer,
          monitors: [term],
          monitored: integer
        }

  @doc "Notes how the calling process is, which is linked to its server."
  @spec note(server :: pid) :: t
  def note(server) do
    {:garbage_collection, heap} = :erlang.process_info(self(), :garbage_collection)

    update(%__MODULE__{
      server: server,
      flags: @flags ++ Keyword.take(heap, @heap_flags) ++ distribution_flags(),
      dictionary: self() |> :erlang.process_info(:dictionary) |> elem(1),
      group_leader: :erlang.group_leader(),
      links: [],
      linked: 0,
      monitors: [],
      monitored: 0
    })
  end

  # Not there on all OTPs.
  defp distribution_flags do
    [async_dist: apply(:erlang, :process_flag, [:async_dist, false])]
  rescue
    ArgumentError -> []
  end

  @doc "Does what has to be done before others' signals come, and before messages are sent."
  @spec shield :: :ok
  def shield do
    :erlang.process_flag(:trap_exit, true)
    # It would go with the messages.
    :seq_trace.set_token([])
    :ok
  end

  @doc "Sets the flags as they were."
  @spec reset_flags(t) :: :ok
  def reset_flags(room), do: set_flags(room.flags)

  defp set_flags([]), do: :ok

  defp set_flags([{flag, value} | flags]) do
    :erlang.process_flag(flag, value)
    set_flags(flags)
  end

  @doc """
  Makes flags, dictionary, group leader, registered name and trace token what they were, and drops
  messages but for those that `ours?` says yes to, signals from others, and system messages.
  """
  @spec restore(t, ours? :: (term -> boolean)) :: :ok
  def restore(room, ours?) do
    shield()
    reset_flags(room)

    # One question costs less than two.
    [message_queue_len: waiting, registered_name: name, dictionary: dictionary] =
      :erlang.process_info(self(), [:message_queue_len, :registered_name, :dictionary])

    if waiting > 0, do: drop_messages(ours?)
    if name != [], do: Process.unregister(name)

    if :erlang.group_leader() != room.group_leader,
      do: :erlang.group_leader(room.group_leader, self())

    # One that is sensitive shows none. Making it what it is already would cost it its turn.
    if dictionary !== room.dictionary do
      :erlang.process_flag(:sensitive, false)
      :erlang.erase()
      for {key, value} <- room.dictionary, do: :erlang.put(key, value)
    end

    :ok
  end

  # In their order, for those that are kept are sent again.
  defp drop_messages(ours?) do
    for message <- messages(), ours?.(message) or signal?(message), do: send(self(), message)
  end

  defp messages do
    receive do
      message -> [message | messages()]
    after
      0 -> []
    end
  end

  # A start that exits itself, or asks itself, would end the process later.
  defp signal?({:EXIT, from, _reason}), do: from != self()
  defp signal?({:DOWN, _monitor, :process, _pid, _reason}), do: true
  defp signal?({:system, {from, _tag}, _request}), do: is_pid(from) and from != self()
  defp signal?(_message), do: false

  @doc """
  The links that came since this was noted, but for that to the worker, whether monitors did, and how
  the process is now. Links that went are there again, and what was suspended goes on.
  """
  @spec news(t, worker :: pid | nil) :: {links :: [pid | port], monitors? :: boolean, t}
  def news(room, worker) do
    {waiting, suspended, now} = look(room)
    expected = if :lists.member(worker, now.links), do: 1, else: 0

    # The lists are in no certain order, and comparing them takes long. If no news of an end waits,
    # their lengths say enough.
    if waiting == 0 and suspended == [] and now.linked == room.linked + expected and
         now.monitored == room.monitored and :lists.member(room.server, now.links) do
      {[], false, now}
    else
      for {pid, _active, _outstanding} <- suspended, do: resume(pid)
      came = List.delete(now.links -- room.links, worker)
      went = for pid <- room.links -- now.links, is_pid(pid), Process.link(pid), do: pid
      now = %{now | links: went ++ now.links, linked: length(went) + now.linked}
      {came, now.monitors -- room.monitors != [], now}
    end
  end

  # As often as it was suspended.
  defp resume(pid) do
    :erlang.resume_process(pid)
    resume(pid)
  rescue
    _not_suspended -> :ok
  end

  @doc "The calling process's links."
  @spec links :: [pid | port]
  def links do
    {:links, links} = :erlang.process_info(self(), :links)
    links
  end

  @doc "From here on, the present links and monitors are no news."
  @spec update(t) :: t
  def update(room), do: room |> look() |> elem(2)

  # How many messages wait, what the process has suspended, and how it is.
  defp look(room) do
    [message_queue_len: waiting, suspending: suspended, links: links, monitors: monitors] =
      :erlang.process_info(self(), [:message_queue_len, :suspending, :links, :monitors])

    {linked, monitored} = {length(links), length(monitors)}
    now = %{room | links: links, linked: linked, monitors: monitors, monitored: monitored}
    {waiting, suspended, now}
  end

  @doc "An exit signal came: there is a link less."
  @spec unlinked(t) :: t
  def unlinked(room), do: %{room | linked: room.linked - 1}

  @doc "A monitor came to its end: there is one less."
  @spec unmonitored(t) :: t
  def unmonitored(room), do: %{room | monitored: room.monitored - 1}
end
