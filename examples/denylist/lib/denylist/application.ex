defmodule Denylist.Application do
  @moduledoc """
  Opens the store, then supervises the registry of `Denylist.Worker` processes.

  When the application stops, the supervisor stops the registry, the registry
  stops its workers, and each worker saves the rules it has changed.
  """

  use Application

  @impl true
  def start(_type, _args) do
    :ok = Denylist.Store.open()

    children = [
      # However many workers save at once: none is killed at it for taking too long.
      {GenRegistry, worker_module: Denylist.Worker, worker_shutdown: :infinity}
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Denylist.Supervisor)
  end
end
