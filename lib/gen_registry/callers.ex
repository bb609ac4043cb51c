defmodule GenRegistry.Callers do
  @moduledoc false
  # What a server knows of those who wait for it: whether they still do, and on whose behalf.

  alias GenRegistry.{Table, TermMap, Types, Waits}

  defstruct monitors: %{}, froms: TermMap.new()

  @typedoc "Who waits for a reply. One that is in a start or an end says so by its `t:in_which/0`."
  @type from :: GenServer.from() | {pid, {:in, in_which, tag :: term}}

  @typedoc "The process that runs the start, or ends, and the caller's wait on behalf of that."
  @type in_which :: {pid, Waits.wait() | nil}

  @typedoc "Callers on other nodes: monitors to `{id, from}`, and those to the monitors."
  @type t :: %__MODULE__{
          monitors: %{reference => {Types.id(), GenServer.from()}},
          froms: TermMap.t(reference)
        }

  @doc "A caller that is in a start or an end."
  @spec in_which(GenServer.from(), in_which) :: from
  def in_which({pid, tag}, in_which), do: {pid, {:in, in_which, tag}}

  @doc "The process in whose start or end a caller is, or `nil`."
  @spec by(from) :: pid | nil
  def by({_pid, {:in, {by, _wait}, _tag}}) when is_pid(by), do: if(Table.local?(by), do: by)
  def by(_from), do: nil

  @doc "Nobody on another node waits."
  @spec new :: t
  def new, do: %__MODULE__{}

  @doc """
  Whether a caller still waits. One on another node is taken to, while that is there and its monitor
  says nothing else.
  """
  @spec waiting?(from) :: boolean
  def waiting?({pid, _tag}) when node(pid) == node(), do: Table.alive?(pid)
  def waiting?({pid, _tag}), do: node(pid) in Node.list(:connected)

  @doc "Watches a caller that waits for an id, if it is on another node."
  @spec watch(t, Types.id(), from) :: t
  def watch(callers, _id, {pid, _}) when node(pid) == node(), do: callers

  def watch(callers, id, {pid, _} = from) do
    # A monitor would connect to a node that is not there, and wait for that.
    if waiting?(from) do
      monitor = Process.monitor(pid)

      %{
        callers
        | monitors: Map.put(callers.monitors, monitor, {id, from}),
          froms: TermMap.put(callers.froms, from, monitor)
      }
    else
      callers
    end
  end

  @doc "A request is heard, and not answered at once."
  @spec heard(from) :: :ok
  def heard({pid, {:in, {_by, wait}, _tag}}), do: Waits.heard(pid, wait)
  def heard(_from), do: :ok

  @doc "Replies to a caller, whose wait is removed first, see `GenRegistry.Waits.begin_wait/3`."
  @spec reply(from, term) :: :ok
  def reply({pid, {:in, {_by, wait}, tag}}, reply) do
    Waits.end_wait(pid, wait)
    GenServer.reply({pid, tag}, reply)
  end

  def reply(from, reply), do: GenServer.reply(from, reply)

  @doc "A caller has its reply, or its start begins, which goes on whatever becomes of the caller."
  @spec unwatch(t, from) :: t
  def unwatch(callers, {pid, _}) when node(pid) == node(), do: callers

  def unwatch(callers, from) do
    case TermMap.fetch(callers.froms, from) do
      {:ok, monitor} ->
        Process.demonitor(monitor, [:flush])
        monitors = Map.delete(callers.monitors, monitor)
        %{callers | monitors: monitors, froms: TermMap.delete(callers.froms, from)}

      :error ->
        callers
    end
  end

  @doc "The id that a caller waited for which is gone, or `nil` if this monitor is none of these."
  @spec down(t, reference) :: {Types.id(), t} | nil
  def down(%{monitors: monitors} = callers, monitor) when is_map_key(monitors, monitor) do
    {{id, from}, monitors} = Map.pop!(monitors, monitor)
    {id, %{callers | monitors: monitors, froms: TermMap.delete(callers.froms, from)}}
  end

  def down(_callers, _monitor), do: nil
end
