defmodule GenRegistry.Endings do
  @moduledoc false
  # What a registry is ending: workers, and what starts have left. Each process has been told to end,
  # and is killed when its time is over.
  # Functions run in the server, which hands on the messages that they cause.

  alias GenRegistry.{Shutdown, Starter, Table, TermMap, Types}

  defstruct [
    :time,
    # Ids to `{worker, monitor, timer}`, and those monitors to the ids.
    workers: TermMap.new(),
    ids: %{},
    # The monitors of workers that earlier registries have left.
    left: %{},
    # Ids to how many processes a start has left, and those monitors to the ids.
    remains: TermMap.new(),
    ids_of_remains: %{}
  ]

  @type t :: %__MODULE__{}

  @doc "None is being ended. `time` is how long each has."
  @spec new(Shutdown.time()) :: t
  def new(time), do: %__MODULE__{time: time}

  @doc "How many ids have a worker of this registry that is being ended, or what a start has left."
  @spec count(t) :: non_neg_integer
  def count(endings) do
    TermMap.size(endings.workers) - map_size(endings.left) + TermMap.size(endings.remains)
  end

  @doc "How many ids have a worker that an earlier registry has left, and that is being ended."
  @spec left(t) :: non_neg_integer
  def left(endings), do: map_size(endings.left)

  @doc "The worker of an id that is being ended, or `nil`."
  @spec worker(t, Types.id()) :: pid | nil
  def worker(endings, id) do
    with {:ok, {pid, _, _}} <- TermMap.fetch(endings.workers, id), do: pid, else: (_ -> nil)
  end

  @doc """
  Ends the worker of an id. `waiting?` says whether its parent waits, and can tell it.

  The server is sent the `:DOWN` of a monitor, for `down/2`, and perhaps `{:time_is_over, id, monitor}`.
  """
  @spec add(t, Types.id(), pid, Table.parent(), waiting? :: boolean) :: t
  def add(endings, id, pid, parent, waiting?) do
    {monitor, timer} =
      request_shutdown(endings.time, pid, parent, waiting?, &{:time_is_over, id, &1})

    %{
      endings
      | workers: TermMap.put(endings.workers, id, {pid, monitor, timer}),
        ids: Map.put(endings.ids, monitor, id)
    }
  end

  @doc "As `add/5`, of a worker that an earlier registry has left."
  @spec add_left(t, Types.id(), pid, Table.parent()) :: t
  def add_left(endings, id, pid, parent) do
    endings = add(endings, id, pid, parent, false)
    {^pid, monitor, _timer} = TermMap.fetch!(endings.workers, id)
    put_in(endings.left[monitor], true)
  end

  @doc """
  What is down by this monitor, or `nil` if it is none of these: an id's `:worker`, `:all` that a start
  of it has left, or `:some` of that.
  """
  @spec down(t, reference) :: {:worker | :all | :some, Types.id(), t} | nil
  def down(%{ids: ids} = endings, monitor) when is_map_key(ids, monitor) do
    {id, ids} = Map.pop!(ids, monitor)
    {_pid, _monitor, timer} = TermMap.fetch!(endings.workers, id)
    if timer, do: Process.cancel_timer(timer, async: true, info: false)
    workers = TermMap.delete(endings.workers, id)
    left = Map.delete(endings.left, monitor)
    {:worker, id, %{endings | workers: workers, ids: ids, left: left}}
  end

  def down(%{ids_of_remains: ids} = endings, monitor) when is_map_key(ids, monitor) do
    {id, ids} = Map.pop!(ids, monitor)
    endings = %{endings | ids_of_remains: ids}

    case TermMap.fetch!(endings.remains, id) do
      1 -> {:all, id, update_in(endings.remains, &TermMap.delete(&1, id))}
      left -> {:some, id, update_in(endings.remains, &TermMap.put(&1, id, left - 1))}
    end
  end

  def down(_endings, _monitor), do: nil

  @doc "Kills the worker of an id whose time is over."
  @spec kill(t, Types.id(), reference) :: :ok
  def kill(endings, id, monitor) do
    with {:ok, {pid, ^monitor, _}} <- TermMap.fetch(endings.workers, id),
         do: Shutdown.kill_late([pid], endings.time)

    :ok
  end

  @doc """
  Awaits what a start of an id has left, all of it told to end by `refuse/4`. The server is sent the
  `:DOWN` of a monitor for each, for `down/2`.
  """
  @spec await_remains(t, Types.id(), [pid]) :: t
  def await_remains(endings, _id, []), do: endings

  def await_remains(endings, id, pids) do
    ids = for pid <- pids, into: endings.ids_of_remains, do: {Process.monitor(pid), id}
    %{endings | remains: TermMap.put(endings.remains, id, length(pids)), ids_of_remains: ids}
  end

  @doc """
  Ends a worker that has no id: another process took it, or its start failed. The server may be sent
  `{:refused_too_long, worker, monitor}`, for `kill_refused/2`.
  """
  @spec refuse(t, pid, Table.parent(), waiting? :: boolean) :: :ok
  def refuse(endings, pid, parent, waiting?) do
    request_shutdown(endings.time, pid, parent, waiting?, &{:refused_too_long, pid, &1})
    :ok
  end

  @doc "Kills a worker without an id whose time is over. Its monitor is there for as long as it is."
  @spec kill_refused(t, pid, reference) :: :ok
  def kill_refused(endings, pid, monitor) do
    if Process.demonitor(monitor, [:info]), do: Shutdown.kill_late([pid], endings.time)
    :ok
  end

  # Returns the worker's monitor, and the timer of the message that is made of that.
  defp request_shutdown(time, pid, parent, waiting?, when_time_is_over) do
    monitor = Process.monitor(pid)

    cond do
      time == :brutal_kill -> Process.exit(pid, :kill)
      waiting? -> Starter.shut_down(parent, [pid])
      true -> Shutdown.signal(pid, parent)
    end

    {monitor, set_timer(Shutdown.milliseconds(time), when_time_is_over.(monitor))}
  end

  defp set_timer(:infinity, _message), do: nil
  defp set_timer(time, message), do: Process.send_after(self(), message, time)
end
