defmodule GenRegistry.Starters do
  @moduledoc false
  # The starters of a registry, and what each is doing. The one that was used last is the first to be
  # used again, so that few have work in quiet times.

  # So many are kept ready though they have no workers.
  @ready 4

  defstruct states: %{}, idle: :gb_sets.empty(), turn: 0

  @typedoc """
  What a starter is doing.

    * `{:starting, id}` - it runs this id's `start_link`
    * `:handling` - its start is over, but not yet what follows
    * `{:idle, turn}` - it waits for the next start
    * `:parent` - it waits too, but takes no more starts
  """
  @type state ::
          {:starting, GenRegistry.Types.id()} | :handling | {:idle, turn :: integer} | :parent

  @type t :: %__MODULE__{
          states: %{pid => state},
          idle: :gb_sets.set({turn :: integer, pid}),
          turn: integer
        }

  @doc "There are none."
  @spec new :: t
  def new, do: %__MODULE__{}

  @doc "All of them."
  @spec pids(t) :: [pid]
  def pids(starters), do: Map.keys(starters.states)

  @doc "Those whose start is over, but not yet what follows."
  @spec handling(t) :: [pid]
  def handling(starters), do: for({pid, :handling} <- starters.states, do: pid)

  @doc "How many there are."
  @spec count(t) :: non_neg_integer
  def count(starters), do: map_size(starters.states)

  @doc "The idle one to be used next, or `nil`."
  @spec next(t) :: pid | nil
  def next(starters) do
    unless :gb_sets.is_empty(starters.idle) do
      {_turn, pid} = :gb_sets.largest(starters.idle)
      pid
    end
  end

  @doc "The id that a starter is starting a worker for, or `nil`."
  @spec starting(t, pid) :: {:starting, GenRegistry.Types.id()} | nil
  def starting(starters, pid) do
    with {:starting, _id} = starting <- starters.states[pid], do: starting, else: (_ -> nil)
  end

  @doc "Whether a starter does nothing but wait for its workers' ends or the next start."
  @spec waiting?(t, pid) :: boolean
  def waiting?(starters, pid),
    do: match?({:idle, _}, starters.states[pid]) or starters.states[pid] == :parent

  @doc "Whether a starter is one that may say that it is idle, or a mere parent."
  @spec rests?(t, pid) :: boolean
  def rests?(starters, pid), do: starters.states[pid] in [:handling, :parent]

  @doc "Whether a starter that waits and has no workers may end."
  @spec spare?(t, pid) :: boolean
  def spare?(starters, pid) do
    case starters.states do
      %{^pid => :parent} -> true
      %{^pid => {:idle, _}} -> :gb_sets.size(starters.idle) > @ready
      %{} -> false
    end
  end

  @doc "Notes what a starter is doing now."
  @spec put(t, pid, {:starting, GenRegistry.Types.id()} | :handling | :idle | :parent) :: t
  def put(starters, pid, :idle) do
    %{states: states, idle: idle, turn: turn} = not_idle(starters, pid)
    states = Map.put(states, pid, {:idle, turn})
    %{starters | states: states, idle: :gb_sets.add({turn, pid}, idle), turn: turn + 1}
  end

  def put(starters, pid, state) do
    starters = not_idle(starters, pid)
    %{starters | states: Map.put(starters.states, pid, state)}
  end

  @doc "Forgets a starter."
  @spec delete(t, pid) :: t
  def delete(starters, pid) do
    starters = not_idle(starters, pid)
    %{starters | states: Map.delete(starters.states, pid)}
  end

  defp not_idle(starters, pid) do
    case starters.states do
      %{^pid => {:idle, turn}} -> %{starters | idle: :gb_sets.delete({turn, pid}, starters.idle)}
      %{} -> starters
    end
  end
end
