defmodule CrossingWorker do
  @moduledoc """
  Workers of two registries, each counted by the `Census` of its own: in their inits some start one of the
  other registry, and both their starts and their ends may take a while.
  """

  use GenServer

  @doc """
  What the workers of a storm have in common. `start_ms` and `end_ms` are the most milliseconds that a start and
  an end take.
  """
  defstruct [:registries, :censuses, :ids, :start_ms, :end_ms]

  @doc "The arguments of a start of an id of a registry, drawn by the calling process."
  def args(storm, registry, index) do
    other = if registry == 0, do: 1, else: 0
    asks = if :rand.uniform(3) == 1, do: {other, :rand.uniform(storm.ids)}
    long? = :rand.uniform(20) == 1

    [
      storm,
      {registry, index},
      %{
        start_ms: :rand.uniform(storm.start_ms + 1) - 1,
        asks: asks,
        end_ms: if(long?, do: :rand.uniform(storm.end_ms + 1) - 1, else: 0),
        traps?: long? or :rand.uniform(2) == 1
      }
    ]
  end

  def start_link(storm, id, how), do: GenServer.start_link(__MODULE__, {storm, id, how})

  @impl true
  def init({storm, {registry, index}, how}) do
    Process.flag(:trap_exit, how.traps?)
    Census.enter(elem(storm.censuses, registry), index)
    spend(how.start_ms)

    with {other, asked} <- how.asks do
      name = elem(storm.registries, other)
      # One that asks for no further ones.
      args = [storm, how.asks, %{how | asks: deeper(storm, registry), start_ms: 0}]
      Lifecycle.attempt(fn -> GenRegistry.lookup_or_start(name, asked, args, 1_000) end)
    end

    {:ok, how}
  end

  # Back to the first registry now and then: so circles come about.
  defp deeper(storm, registry) do
    if :rand.uniform(4) == 1, do: {registry, :rand.uniform(storm.ids)}
  end

  @impl true
  def handle_info(_message, how), do: {:noreply, how}

  @impl true
  def terminate(_reason, how), do: spend(how.end_ms)

  # What takes its time is the matter here, so this is no wait for anything.
  defp spend(milliseconds) do
    receive do
    after
      milliseconds -> :ok
    end
  end
end
