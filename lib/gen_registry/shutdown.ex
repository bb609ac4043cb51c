defmodule GenRegistry.Shutdown do
  @moduledoc false
  # Ends workers: one, or all of a registry.

  alias GenRegistry.{Deadline, Sweeper, Table}

  @typedoc """
  How long a worker has to end after `:shutdown`, in milliseconds. By default that is `:infinity` for
  supervisors, which wait for their own children.
  """
  @type time :: non_neg_integer | :infinity | :brutal_kill | :default

  @default 5_000

  # For so many milliseconds it is asked what a process is.
  @patience 1_000

  @doc "For how long it is waited before processes are killed."
  @spec milliseconds(time) :: timeout
  def milliseconds(:default), do: @default
  def milliseconds(:brutal_kill), do: 0
  def milliseconds(time), do: time

  @doc "Kills processes whose time is over, but those that have no end of it."
  @spec kill_late([pid], time) :: :ok
  def kill_late(pids, :default) do
    apart(fn -> kill_late(pids -- supervisors(pids), 0) end)
  end

  def kill_late(pids, _time), do: Enum.each(pids, &Process.exit(&1, :kill))

  # Those that say so in their initial call. One that does not answer is none.
  defp supervisors(pids) do
    pids |> Enum.chunk_every(1_000) |> Enum.flat_map(&supervisors_of_few/1)
  end

  defp supervisors_of_few(pids) do
    {asking, ref} = {self(), make_ref()}
    for pid <- pids, do: spawn(fn -> send(asking, {ref, pid, supervisor?(pid)}) end)
    answered(ref, length(pids), Deadline.after_timeout(@patience), [])
  end

  defp answered(_ref, 0, _deadline, found), do: found

  defp answered(ref, count, deadline, found) do
    receive do
      {^ref, pid, true} -> answered(ref, count - 1, deadline, [pid | found])
      {^ref, _pid, false} -> answered(ref, count - 1, deadline, found)
    after
      Deadline.left(deadline) -> found
    end
  end

  @doc "Whether a process says of itself that it is a supervisor, as registries are."
  @spec supervisor?(pid) :: boolean
  def supervisor?(pid),
    do: module_of(pid) in [:supervisor, :supervisor_bridge, GenRegistry.Server]

  @doc "The module that a process says it runs, as those of OTP's behaviours do, or `nil`."
  @spec module_of(pid) :: module | nil
  def module_of(pid) do
    with {:dictionary, dictionary} <- Process.info(pid, :dictionary),
         {_key, {module, _, _}} <- List.keyfind(dictionary, :"$initial_call", 0) do
      module
    else
      _ -> nil
    end
  end

  @doc """
  Sends `:shutdown` to a worker whose parent cannot.

  A process that traps exits expects the exit signal of its parent, as a message: an OTP process
  takes no other for the order to end. So it gets just that message. One that does not trap gets a
  signal, whose sender does not matter. Which of the two it is, only the worker's own process can
  tell, which may be busy: so that is asked in a process of its own.
  """
  @spec signal(worker :: pid, Table.parent()) :: :ok
  def signal(worker, parent) do
    apart(fn ->
      case Process.info(worker, :trap_exit) do
        {:trap_exit, true} -> send(worker, {:EXIT, parent || self(), :shutdown})
        {:trap_exit, false} -> Process.exit(worker, :shutdown)
        nil -> :ok
      end
    end)
  end

  @doc "Runs a function in a process of its own, or in this one if the VM has no room for more."
  @spec apart(fun) :: :ok
  def apart(fun) do
    spawn(fun)
    :ok
  rescue
    SystemLimitError ->
      fun.()
      :ok
  end

  @doc """
  Runs a function in a process of its own, and waits for its end. If that process is killed, the function
  runs again.

  The caller is a server that ends. It hands the calls that come meanwhile to `answer`, which takes `from` and
  the request. All its other messages are lost.
  """
  @spec await((term, term -> term), fun) :: :ok
  def await(answer, fun) do
    {_pid, monitor} = spawn_monitor(fun)
    if down(monitor, answer) == :normal, do: :ok, else: await(answer, fun)
  rescue
    # The VM has no room for more.
    SystemLimitError ->
      fun.()
      :ok
  end

  defp down(monitor, answer) do
    receive do
      {:DOWN, ^monitor, _, _, reason} ->
        reason

      {:"$gen_call", from, request} ->
        answer.(from, request)
        down(monitor, answer)

      _what_is_over ->
        down(monitor, answer)
    end
  end

  @doc """
  Waits until every process of a registry is dead but the server, which waits for that. Workers that are
  left when the time is over are killed, starters too, with what they had begun to start. The `others`
  are not waited for: they are killed when all else is gone.
  """
  @spec end_all(Table.t(), server :: pid, time, others :: [pid]) :: :ok
  def end_all(table, server, time, others) do
    others = MapSet.new(others)

    awaited = fn ->
      Enum.reject(alive(table, server), fn {pid, _} -> MapSet.member?(others, pid) end)
    end

    await_until(awaited, Deadline.after_timeout(milliseconds(time)))
    kill_all(table, server, time)
  end

  defp kill_all(table, server, time) do
    case alive(table, server) do
      [] ->
        :ok

      processes ->
        workers = for {pid, parent} <- processes, parent != nil, do: pid
        spared = without_end(workers, time)
        # A sweeper ends when it has ended what killed starters left.
        {sweepers, starters} = Enum.split_with(without_parent(processes), &Sweeper.sweeper?/1)
        kill(starters)

        # A worker in its init is not registered yet. Its parent is dead before it is looked for, so
        # there will be no more of them.
        parents = for {pid, parent} <- processes, uniq: true, do: parent || pid
        children = for {pid, _parent} <- children(parents -- sweepers), do: pid
        spared = spared ++ without_end(children -- spared, time)
        kill(Enum.uniq(children ++ workers) -- spared)
        await_down(monitor(spared ++ sweepers), :infinity)
        kill_all(table, server, time)
    end
  end

  # Those that are not killed, however long they take.
  defp without_end(pids, :default), do: supervisors(pids)
  defp without_end(_pids, _time), do: []

  defp without_parent(processes), do: for({pid, nil} <- processes, do: pid)

  @doc "The processes of a registry that are alive, but for `except`."
  @spec alive(Table.t(), pid) :: [{pid, Table.parent()}]
  def alive(table, except) do
    for {pid, _} = process <- Table.processes(table), pid != except, Table.alive?(pid) do
      process
    end
  end

  @doc "The processes that these ones spawned, with who did. All processes of the VM are looked at."
  @spec children([pid]) :: [{child :: pid, parent :: pid}]
  def children([]), do: []

  def children(parents) do
    parents = MapSet.new(parents)

    for pid <- Process.list(),
        # One that has died answers no question before the VM has undone all of it.
        Table.alive?(pid),
        {:parent, parent} <- [Process.info(pid, :parent)],
        MapSet.member?(parents, parent),
        do: {pid, parent}
  end

  defp await_until(alive, deadline) do
    case alive.() do
      [] ->
        :ok

      processes ->
        monitors = monitor(for {pid, _parent} <- processes, do: pid)
        if await_down(monitors, deadline), do: await_until(alive, deadline)
    end
  end

  defp kill(pids) do
    Enum.each(pids, &Process.exit(&1, :kill))
    await_down(monitor(pids), :infinity)
    :ok
  end

  defp monitor(pids), do: Map.new(pids, &{Process.monitor(&1), []})

  # Whether all of them went down in time.
  defp await_down(monitors, _deadline) when monitors == %{}, do: true

  defp await_down(monitors, deadline) do
    # Not `after left`, which would go on past the deadline for as long as there is news.
    case Deadline.left(deadline) do
      0 ->
        false

      left ->
        receive do
          {:DOWN, monitor, _, _, _} -> await_down(Map.delete(monitors, monitor), deadline)
        after
          left -> false
        end
    end
  end
end
