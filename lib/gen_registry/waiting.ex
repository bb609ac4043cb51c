defmodule GenRegistry.Waiting do
  @moduledoc false
  # Those who wait until an id has a process, without asking for one. Each is watched, so that one that dies
  # leaves nothing behind. Functions run in the server, which hands on the messages that they cause.

  alias GenRegistry.{TermMap, Types}

  defstruct ids: TermMap.new(), monitors: %{}

  @typedoc "Ids to callers, and these to their monitors; and those to who waits for what."
  @type t :: %__MODULE__{
          ids: TermMap.t(%{pid => %{reference => true}}),
          monitors: %{reference => {Types.id(), GenServer.from()}}
        }

  @doc "Nobody waits."
  @spec new :: t
  def new, do: %__MODULE__{}

  @doc "Somebody waits for an id."
  @spec add(t, Types.id(), GenServer.from()) :: t
  def add(waiting, id, {pid, _tag} = from) do
    monitor = Process.monitor(pid)

    callers =
      Map.update(callers(waiting, id), pid, %{monitor => true}, &Map.put(&1, monitor, true))

    %{
      waiting
      | ids: TermMap.put(waiting.ids, id, callers),
        monitors: Map.put(waiting.monitors, monitor, {id, from})
    }
  end

  @doc "All who wait for an id, and no more."
  @spec pop(t, Types.id()) :: {[GenServer.from()], t}
  def pop(%{monitors: none} = waiting, _id) when none == %{}, do: {[], waiting}

  def pop(waiting, id) do
    monitors = waiting |> callers(id) |> Map.values() |> Enum.flat_map(&Map.keys/1)
    {froms, waiting} = Enum.map_reduce(monitors, waiting, &forget(&2, &1))
    {froms, %{waiting | ids: TermMap.delete(waiting.ids, id)}}
  end

  @doc "A caller does not wait for an id any more."
  @spec leave(t, Types.id(), pid) :: t
  def leave(%{monitors: none} = waiting, _id, _caller) when none == %{}, do: waiting

  def leave(waiting, id, caller) do
    {monitors, callers} = Map.pop(callers(waiting, id), caller, %{})
    {_froms, waiting} = Enum.map_reduce(Map.keys(monitors), waiting, &forget(&2, &1))
    put(waiting, id, callers)
  end

  @doc "A caller has died, if this monitor is one of these; else `nil`."
  @spec down(t, reference) :: t | nil
  def down(waiting, monitor) do
    case waiting.monitors do
      %{^monitor => {id, {caller, _tag}}} ->
        waiting = %{waiting | monitors: Map.delete(waiting.monitors, monitor)}
        callers = Map.update!(callers(waiting, id), caller, &Map.delete(&1, monitor))
        callers = if callers[caller] == %{}, do: Map.delete(callers, caller), else: callers
        put(waiting, id, callers)

      %{} ->
        nil
    end
  end

  @doc "All who wait."
  @spec froms(t) :: [GenServer.from()]
  def froms(waiting), do: for({_monitor, {_id, from}} <- waiting.monitors, do: from)

  defp callers(waiting, id) do
    case TermMap.fetch(waiting.ids, id) do
      {:ok, callers} -> callers
      :error -> %{}
    end
  end

  defp put(waiting, id, callers) when callers == %{},
    do: %{waiting | ids: TermMap.delete(waiting.ids, id)}

  defp put(waiting, id, callers), do: %{waiting | ids: TermMap.put(waiting.ids, id, callers)}

  defp forget(waiting, monitor) do
    Process.demonitor(monitor, [:flush])
    {{_id, from}, monitors} = Map.pop!(waiting.monitors, monitor)
    {from, %{waiting | monitors: monitors}}
  end
end
