defmodule GenRegistry.Sweeper do
  @moduledoc false
  # Stands beside a starter. If that is killed, it ends what the starter had begun to start, of
  # which nobody else knows. It is a process of the registry itself: should the registry be killed
  # too, the next one waits for it.

  alias GenRegistry.{Shutdown, Table}

  @doc "Starts the sweeper of a starter of the calling server."
  @spec start(pid, Table.t(), Shutdown.time()) :: pid
  def start(starter, table, time) do
    server = self()

    sweeper =
      spawn(fn ->
        # A registry that ends sends `:shutdown` to all that have a parent.
        Process.flag(:trap_exit, true)
        starter_monitor = Process.monitor(starter)
        server_monitor = Process.monitor(server)

        receive do
          # It ended when it was idle.
          {:DOWN, ^starter_monitor, _, _, :shutdown} -> :ok
          {:DOWN, ^starter_monitor, _, _, _} -> Shutdown.clear(table, starter, time)
        end

        receive do
          :report -> send(server, {:swept, starter})
          {:DOWN, ^server_monitor, _, _, _} -> :ok
        end
      end)

    # By its parent, the starter is known even when it is dead.
    Table.track(table, sweeper, starter)
    sweeper
  end

  @doc "Has it send `{:swept, starter}` to the server when that is done."
  @spec report(pid) :: :ok
  def report(sweeper) do
    send(sweeper, :report)
    :ok
  end
end
