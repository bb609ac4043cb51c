defmodule RateLimiter.Application do
  @moduledoc """
  Supervises the statistics, the registry of `RateLimiter.Worker` processes and the
  HTTP server, in this order: who is asked is there before those who ask.
  """

  use Application

  @impl true
  def start(_type, _args) do
    children = [
      RateLimiter.Stats,
      {GenRegistry, worker_module: RateLimiter.Worker},
      RateLimiter.Web
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: RateLimiter.Supervisor)
  end
end
