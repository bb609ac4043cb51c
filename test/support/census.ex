defmodule Census do
  @moduledoc """
  Sees every overlap of two workers of one id, however short.

  A worker enters, first thing in its init, by putting its number into the cell of its id, in one
  step, and looks at whoever was there before. If that one is alive, there are two. Nobody can be
  missed: of two that overlap, one enters later, and finds the other one, or one in between that
  found it.

  So the cell also tells of which workers it is known that they are dead, see `seen/2`.
  """

  defstruct [:cells, :people, :numbers, :highest]

  def new(ids) do
    %__MODULE__{
      cells: :atomics.new(ids, []),
      # `{number, pid}` and `{pid, number}`; and `{{:before, number}, number}`.
      people: :ets.new(:census, [:public, write_concurrency: true, read_concurrency: true]),
      numbers: :atomics.new(1, []),
      highest: :atomics.new(1, [])
    }
  end

  @doc "In a worker's init: counts it in."
  def enter(census, index) do
    number = :atomics.add_get(census.numbers, 1, 1)
    :ets.insert(census.people, [{number, self()}, {self(), number}])
    before = :atomics.exchange(census.cells, index, number)
    :ets.insert(census.people, {{:before, number}, before})
    raise_to(census.highest, 1 + living(census, before))
    number
  end

  @doc """
  In a worker whose init fails, last thing: counts it out. Others are out when they are dead.

  One that has taken its name has it still, and may be answered, until it gives it up after that.
  """
  def leave(census, number), do: :ets.insert(census.people, {number, {:left, self()}})

  @doc "How many have entered."
  def entered(census), do: :atomics.get(census.numbers, 1)

  @doc "The highest number of workers that an id had at once."
  def highest(census), do: :atomics.get(census.highest, 1)

  @doc "All who live."
  def alive(census) do
    for [pid] <- :ets.match(census.people, {:"$1", :_}),
        is_pid(pid),
        [{_, number}] = :ets.lookup(census.people, pid),
        alive?(census, number),
        do: pid
  end

  @doc "Before a call: the last one of an id, and whether it is dead already."
  def seen(census, index) do
    number = :atomics.get(census.cells, index)

    case :ets.lookup(census.people, number) do
      [{_, {:left, pid}}] -> {number, not Process.alive?(pid)}
      [{_, pid}] -> {number, not Process.alive?(pid)}
      [] -> {number, true}
    end
  end

  @doc "Whether a process that was answered was dead before the call: what was `seen/2` tells."
  def was_dead?(census, {number, dead?}, pid) do
    case :ets.lookup(census.people, pid) do
      [{_, answered}] -> answered < number or (answered == number and dead?)
      # It took its name, and has not entered yet: it is later than whoever was seen.
      [] -> false
    end
  end

  # How many in a row are alive, from this one back.
  defp living(census, number) do
    if alive?(census, number) do
      case :ets.lookup(census.people, {:before, number}) do
        [{_, before}] -> 1 + living(census, before)
        [] -> 1
      end
    else
      0
    end
  end

  defp alive?(census, number) do
    case :ets.lookup(census.people, number) do
      [{_, pid}] when is_pid(pid) -> Process.alive?(pid)
      _ -> false
    end
  end

  defp raise_to(cell, value) do
    highest = :atomics.get(cell, 1)

    if value > highest and :atomics.compare_exchange(cell, 1, highest, value) != :ok do
      raise_to(cell, value)
    end
  end
end
