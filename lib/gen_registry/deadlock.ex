defmodule GenRegistry.Deadlock do
  @moduledoc false
  # Tells a caller who would wait for itself: a start that asks for its own id, or starts, and ends of
  # workers, that ask for each other in a circle. A process that the start does not wait for is none of the
  # circle, though it may have been spawned in it. While that is in doubt, the caller waits as everybody
  # does, and looks again from time to time.

  alias GenRegistry.{Callers, Deadline, Server, Table, Types, Waits}

  # How often it is looked, a millisecond apart, whether all in a circle wait for each other, before it is
  # asked for anything; and at most how far apart after that.
  @looks 20
  @pause 1_000

  # How many processes are passed from one that waits to the start that it is in.
  @steps 16

  @typedoc "What is waited for, first by the caller, then each by the one before."
  @type circle :: [{GenRegistry.name(), Types.id()}]

  @typedoc "How a caller asks: in which start or end it is, and whether it may be in a circle. Or in none."
  @type asking :: {Callers.in_which(), in_doubt? :: boolean} | nil

  @doc """
  Asks for an id of the registry `name`, unless `by`, on whose behalf the caller waits, could never go on
  then. `by` and `name` may be `nil`.
  """
  @spec avoid(pid | nil, GenRegistry.name() | nil, Types.id(), ask :: (asking -> term)) ::
          term | {:error, {:deadlock, circle}}
  def avoid(by, name, id, ask), do: avoid(by, name, id, ask, & &1)

  @doc "As `avoid/4`. A request for the caller's own id is no wait."
  @spec avoid_others(pid | nil, GenRegistry.name() | nil, Types.id(), ask :: (asking -> term)) ::
          term | {:error, {:deadlock, circle}}
  def avoid_others(by, name, id, ask), do: avoid(by, name, id, ask, &without_own/1)

  defp avoid(by, name, _id, ask, _wanted) when by == nil or name == nil, do: ask.(nil)

  defp avoid(by, name, id, ask, wanted) do
    {wait, circle} = Waits.begin_wait(by, name, id)

    try do
      case break(wanted.(circle), @looks) do
        {:broken, circle} -> {:error, {:deadlock, circle}}
        found -> ask.({{by, wait}, found == :in_doubt})
      end
    after
      Waits.end_wait(self(), wait)
    end
  end

  defp without_own([_own]), do: []
  defp without_own(circle), do: circle

  @doc """
  As `GenServer.call/3`, of a caller in doubt, which may be told that it is in a circle while it waits for an
  id.
  """
  @spec call(GenServer.server(), Types.id(), request :: term, timeout) ::
          term | {:error, {:deadlock, circle}}
  def call(registry, id, request, timeout) do
    asked = :gen_server.send_request(registry, request)

    case await(asked, Deadline.after_timeout(timeout), 1) do
      {:reply, reply} -> reply
      {:error, {reason, _registry}} -> not_answered(reason, registry, request, timeout)
      :timeout -> not_answered(:timeout, registry, request, timeout)
      {:broken, circle} -> told(asked, registry, id, circle)
    end
  end

  defp await(asked, deadline, pause) do
    left = Deadline.left(deadline)

    with :timeout <- :gen_server.wait_response(asked, min(pause, left)),
         true <- left > pause or :timeout do
      case look() do
        :none -> :gen_server.receive_response(asked, Deadline.left(deadline))
        :in_doubt -> await(asked, deadline, min(2 * pause, @pause))
        broken -> broken
      end
    end
  end

  # It may have been answered meanwhile.
  defp told(asked, registry, id, circle) do
    case :gen_server.receive_response(asked, 0) do
      {:reply, reply} ->
        reply

      _ ->
        Server.gave_up(registry, id)
        {:error, {:deadlock, circle}}
    end
  end

  defp not_answered(reason, registry, request, timeout),
    do: exit({reason, {GenServer, :call, [registry, request, timeout]}})

  ## Circles

  defp break([], _looks), do: :none

  defp break(circle, looks) do
    case broken(circle, []) do
      [] when looks > 0 ->
        receive do
        after
          1 -> break(Waits.circle([]), looks - 1)
        end

      [] ->
        :in_doubt

      ids ->
        {:broken, ids}
    end
  end

  defp look, do: break(Waits.circle([]), 0)

  # One that nobody awaits is in no circle. There may be another one without it.
  defp broken([], _others), do: []

  defp broken(circle, others) do
    case Enum.find(circle, fn {pid, by} -> not awaited?(pid, by, @steps) end) do
      nil ->
        pids = for {pid, _by} <- circle, do: pid
        answered? = Enum.any?(Waits.circle_ids(pids), &answered?/1)
        if answered?, do: [], else: Waits.break_circle(pids)

      {pid, _by} ->
        others = [pid | others]
        broken(Waits.circle(others), others)
    end
  end

  # Whether one is about to be answered, since the id has its process already: a worker may take it in its
  # init. But who has asked before that waits for the end of the start.
  defp answered?({_wanted, true = _heard?}), do: false

  defp answered?({{name, id}, false}) do
    match?({:ok, _}, Table.lookup_alive(name, id))
  rescue
    # The registry has ended.
    ArgumentError -> true
  end

  # Whether one of these waits for the other: itself, or by others between them.
  defp awaited?(pid, pid, _steps), do: Table.alive?(pid)
  defp awaited?(_pid, _by, 0), do: false

  defp awaited?(pid, by, steps) do
    # What a starter has spawned that died in a start is to end before that is over.
    if not Table.alive?(by) and Process.info(pid, :parent) == {:parent, by} do
      true
    else
      waiting = who_awaits(pid)
      waiting != nil and awaited?(waiting, by, steps - 1)
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
