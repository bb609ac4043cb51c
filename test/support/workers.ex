defmodule ExampleWorker do
  use GenServer

  def start_link(arg \\ nil), do: GenServer.start_link(__MODULE__, arg)

  @impl true
  def init(arg), do: {:ok, arg}

  @impl true
  def handle_call(:ping, _from, state), do: {:reply, :pong, state}
  def handle_call(:get, _from, state), do: {:reply, state, state}
  def handle_call(:hang, _from, state), do: {:noreply, state}

  @impl true
  def handle_cast({:put, state}, _state), do: {:noreply, state}
  def handle_cast(_message, state), do: {:noreply, state}
end

defmodule IdleWorker do
  @moduledoc "The cheapest worker there is, for tests that need thousands."

  def start_link(_arg \\ nil), do: {:ok, spawn_link(fn -> receive(do: (:never -> :ok)) end)}
end

defmodule FunWorker do
  @moduledoc "Its start does and answers whatever the test says."

  def start_link(fun), do: fun.()
end
