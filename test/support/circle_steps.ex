defmodule CircleSteps do
  @moduledoc "Steps of the tests of starts that wait for each other."

  import Lifecycle

  @doc "Two registries with one place each, whose workers have no end of their time."
  def users_and_guilds(context) do
    users = registry(context, max_starting: 1, worker_shutdown: :infinity)
    guilds = Module.concat(users, Guilds)

    ExUnit.Callbacks.start_supervised!(
      {GenRegistry,
       worker_module: LifecycleWorker, name: guilds, max_starting: 1, worker_shutdown: :infinity}
    )

    {:ok, users: users, guilds: guilds}
  end

  @doc "An init that asks for another one, which has this init, and ends as that does."
  def asking(registry, id, init) do
    fn ->
      case GenRegistry.lookup_or_start(registry, id, [init], :infinity) do
        {:ok, _} -> {:ok, nil}
        {:error, reason} -> {:stop, reason}
      end
    end
  end

  @doc "What the caller of a circle of these ids is told."
  def deadlock(ids), do: {:error, {:deadlock, ids}}

  @doc "A function that asks for a worker of an id whose start it may be in."
  def asks_for_itself(%{users: users}),
    do: fn -> GenRegistry.start(users, :itself, [plain()], :infinity) end

  @doc "Returns when a registry has read so many requests."
  def read_by(registry, requests) do
    StartSteps.eventually(fn -> :sys.get_state(registry).schedule.tickets == requests end)
  end
end
