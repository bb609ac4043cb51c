defmodule GenRegistry.Deadlock do
  @moduledoc false
  # Tells a caller who would wait for itself: a start that asks for its own id, or starts, and ends of
  # workers, that ask for each other in a circle. In doubt it waits as everybody does: a process that the
  # start does not wait for is none of the circle, though it may have been spawned in it.

  alias GenRegistry.{Table, Types}

  # How often it is looked, a millisecond apart, whether all in a circle wait for each other.
  @looks 20

  # How many processes are passed from one that waits to the start that it is in.
  @steps 16

  @typedoc "What is waited for, first by the caller, then each by the one before."
  @type circle :: [{GenRegistry.name(), Types.id()}]

  @doc """
  Asks for an id of the registry `name`, unless `by`, on whose behalf the caller waits, could never go on
  then. `by` and `name` may be `nil`.
  """
  @spec avoid(pid | nil, GenRegistry.name() | nil, Types.id(), ask :: fun) ::
          term | {:error, {:deadlock, circle}}
  def avoid(by, name, id, ask), do: avoid(by, name, id, ask, & &1)

  @doc "As `avoid/4`. A request for the caller's own id is no wait."
  @spec avoid_others(pid | nil, GenRegistry.name() | nil, Types.id(), ask :: fun) ::
          term | {:error, {:deadlock, circle}}
  def avoid_others(by, name, id, ask), do: avoid(by, name, id, ask, &without_own/1)

  defp avoid(by, name, _id, ask, _wanted) when by == nil or name == nil, do: ask.()

  defp avoid(by, name, id, ask, wanted),
    do: by |> Table.begin_wait(name, id) |> wanted.() |> ask(ask)

  defp without_own([_own]), do: []
  defp without_own(circle), do: circle

  defp ask(circle, ask) do
    case break(circle, @looks) do
      [] -> ask.()
      circle -> {:error, {:deadlock, circle}}
    end
  after
    Table.end_wait(self())
  end

  defp break([], _looks), do: []

  defp break(circle, looks) do
    case broken(circle, []) do
      [] when looks > 0 ->
        receive do
        after
          1 -> break(Table.circle([]), looks - 1)
        end

      ids ->
        ids
    end
  end

  # One that nobody awaits is in no circle. There may be another one without it.
  defp broken([], _others), do: []

  defp broken(circle, others) do
    case Enum.find(circle, fn {pid, by} -> not awaited?(pid, by, @steps) end) do
      nil ->
        pids = for {pid, _by} <- circle, do: pid
        ids = Table.circle_ids(pids)
        if Enum.any?(ids, &there?/1), do: [], else: Table.break_circle(pids)

      {pid, _by} ->
        others = [pid | others]
        broken(Table.circle(others), others)
    end
  end

  # One that has its process already is about to be answered: a worker may take its id in its init.
  defp there?({name, id}) do
    match?({:ok, _}, Table.lookup_alive(name, id))
  rescue
    # The registry has ended.
    ArgumentError -> true
  end

  # Whether one of these waits for the other: itself, or by others between them.
  defp awaited?(pid, pid, _steps), do: true
  defp awaited?(_pid, _by, 0), do: false

  defp awaited?(pid, by, steps) do
    case who_awaits(pid) do
      nil -> false
      waiting -> awaited?(waiting, by, steps - 1)
    end
  end

  defp who_awaits(pid) do
    with [parent: parent, backtrace: backtrace, dictionary: dictionary] <-
           Process.info(pid, [:parent, :backtrace, :dictionary]) do
      callers =
        case List.keyfind(dictionary, :"$callers", 0) do
          {_, [caller | _]} -> [caller]
          _ -> []
        end

      Enum.find([parent | callers], &awaits?(&1, pid, backtrace))
    end
  end

  # By what a process waits for another: the first function that it is in, and what that keeps. A parent
  # in `:proc_lib` waits for one in its init; a supervisor waits for a child that it ends.
  @tasks ~r/\('Elixir\.(Task':await|Task\.Supervised':stream)/
  @supervisors ~r/\((supervisor|'Elixir\.DynamicSupervisor'):/
  @init ~r/\((gen|gen_server|gen_statem|gen_event):init_it\//

  defp awaits?(waiting, pid, backtrace) do
    with true <- Table.local?(waiting),
         {:backtrace, text} <- Process.info(waiting, :backtrace),
         [first | _] = String.split(text, "Return addr", parts: 2),
         true <- first =~ List.to_string(:erlang.pid_to_list(pid)) do
      first =~ @tasks or first =~ @supervisors or
        (first =~ "(proc_lib:" and backtrace =~ @init)
    else
      _ -> false
    end
  end
end
