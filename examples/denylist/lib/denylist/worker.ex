defmodule Denylist.Worker do
  @moduledoc """
  The process of one phone number, which loads, keeps and saves its rules.

  `GenRegistry` starts it at the first call to the number, with
  `start_link(number)`, and sees to it that there is only one.
  """

  use GenServer

  alias Denylist.{Rules, Store}

  @doc "Starts the process of a number."
  @spec start_link(Rules.phone_number()) :: GenServer.on_start()
  def start_link(number), do: GenServer.start_link(__MODULE__, number)

  @doc "Whether the number takes calls from the sender."
  @spec allow?(Rules.phone_number(), Rules.phone_number()) :: boolean
  def allow?(number, sender), do: call(number, {:allow?, sender})

  @doc "Adds a rule."
  @spec deny(Rules.phone_number(), Rules.rule()) :: :ok
  def deny(number, rule), do: call(number, {:deny, rule})

  @doc "Takes a rule back."
  @spec allow(Rules.phone_number(), Rules.rule()) :: :ok
  def allow(number, rule), do: call(number, {:allow, rule})

  # Finds the process of the number, or starts it.
  defp call(number, request), do: GenRegistry.call(__MODULE__, number, request, args: [number])

  @impl true
  def init(number) do
    # So that terminate/2 runs when the registry shuts the process down.
    Process.flag(:trap_exit, true)
    stored = Store.load(number)
    {:ok, %{number: number, rules: stored, stored: stored}}
  end

  @impl true
  def handle_call({:allow?, sender}, _from, state) do
    {:reply, Rules.allow?(state.rules, sender), state}
  end

  def handle_call({:deny, rule}, _from, state) do
    {:reply, :ok, %{state | rules: Rules.deny(state.rules, rule)}}
  end

  def handle_call({:allow, rule}, _from, state) do
    {:reply, :ok, %{state | rules: Rules.allow(state.rules, rule)}}
  end

  @impl true
  def terminate(_reason, state) do
    if state.rules != state.stored, do: Store.save(state.number, state.rules)
  end
end
