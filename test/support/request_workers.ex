defmodule RequestWorker do
  @moduledoc "A worker that counts its requests, and ends over one if that says so."

  use GenServer

  @doc "Returns when a condition is met: for other VMs, which have no ExUnit."
  def until(fun), do: fun.() || until(fun)

  def start_link, do: GenServer.start_link(__MODULE__, 0)

  @impl true
  def init(count), do: {:ok, count}

  @impl true
  def handle_call(:count, _from, count), do: {:reply, {self(), count + 1}, count + 1}

  def handle_call({:exit, reason, told}, _from, _count) do
    send(told, {:handled, reason})
    exit(reason)
  end

  @impl true
  def handle_cast(:count, count), do: {:noreply, count + 1}
end
