defmodule GenRegistry.Sweeper do
  @moduledoc false
  # Stands beside a starter. If that is killed, it ends what the starter had begun to start, of
  # which nobody else knows. It is a process of the registry itself: should the registry be killed
  # too, the next one waits for it.

  alias GenRegistry.{Shutdown, Table}

  @doc "Starts the sweeper of a starter of the calling server."
  @spec start(pid, Table.t(), Shutdown.time()) :: pid
  def start(starter, table, time) do
    sweeper = spawn(__MODULE__, :run, [self(), starter, table, time])
    # By its parent, the starter is known even when it is dead.
    Table.track(table, sweeper, starter)
    sweeper
  end

  @doc false
  def run(server, starter, table, time) do
    # A registry that ends sends `:shutdown` to all that have a parent.
    Process.flag(:trap_exit, true)
    monitors = {Process.monitor(starter), Process.monitor(server)}

    # As long as nothing happens it is in no function: a process that waits in old code would be ended
    # when this module is upgraded.
    :erlang.hibernate(__MODULE__, :wake, [monitors, server, starter, table, time])
  end

  @doc false
  def wake({starter_monitor, server_monitor}, server, starter, table, time) do
    receive do
      # It ended when it was idle.
      {:DOWN, ^starter_monitor, _, _, :shutdown} -> :ok
      {:DOWN, ^starter_monitor, _, _, _} -> clear(table, starter, time)
    end

    receive do
      :report -> send(server, {:swept, starter})
      {:DOWN, ^server_monitor, _, _, _} -> :ok
    end
  end

  defp clear(table, starter, time) do
    # Told before the starter was killed.
    receive do
      {:leave_to, other} ->
        monitor = Process.monitor(other)

        receive do
          {:DOWN, ^monitor, _, _, _} -> :ok
        end
    after
      0 -> :ok
    end

    Shutdown.clear(table, starter, time)
  end

  @doc """
  Has those among these processes that are sweepers leave it to the calling process, for as long as
  that lives, to end what their starters had begun.

  All processes of the VM have to be looked at for that: once, and not once for each starter.
  """
  @spec leave_to_caller([pid]) :: :ok
  def leave_to_caller(pids) do
    for pid <- pids, {:initial_call, {__MODULE__, _, _}} <- [Process.info(pid, :initial_call)] do
      send(pid, {:leave_to, self()})
    end

    :ok
  end

  @doc "Has it send `{:swept, starter}` to the server when that is done."
  @spec report(pid) :: :ok
  def report(sweeper) do
    send(sweeper, :report)
    :ok
  end
end
