defmodule GenRegistry.Outcomes do
  @moduledoc false
  # What a registry's server makes of the news of its starters: how a start ended, or that one has died.

  import GenRegistry.Actions, only: [bounded?: 1, carry_out: 2, wake: 3]

  alias GenRegistry.{Endings, Events, Held, Schedule, Server, Starters, Table, Types}

  @typedoc "The state of `GenRegistry.Server`."
  @type state :: struct

  @doc "A starter says how its start ended, and what it does now. It may be a stranger."
  @spec started(state, pid, Types.id(), Server.outcome() | term, atom) :: state
  def started(state, starter, id, outcome, doing) do
    case outcome?(outcome) and Starters.starting(state.schedule.starters, starter) do
      {:starting, ^id} ->
        # Of a start that failed, what it was promised is free. A worker has used it.
        if bounded?(state), do: Table.give_back(state.table, starter)
        {outcome, remains} = split_remains(outcome)
        failed = if match?({:ok, _}, outcome), do: state.failed, else: state.failed + 1
        {outcome, alive?} = now(outcome, id, state)
        left? = remains != []
        told = Schedule.started(state.schedule, starter, id, outcome, alive?, doing, left?)
        state = update_in(state.endings, &Endings.await_remains(&1, id, remains))
        state = if alive?, do: wake(state, id, elem(outcome, 1)), else: state
        carry_out(%{state | failed: failed}, told)

      _ ->
        state
    end
  end

  defp outcome?({:ok, pid}), do: is_pid(pid)

  defp outcome?({:failed, reason, shared?, remains}) when is_list(remains),
    do: Held.held?(reason) and is_boolean(shared?) and Enum.all?(remains, &is_pid/1)

  defp outcome?(_outcome), do: false

  defp split_remains({:failed, reason, shared?, remains}),
    do: {{:failed, reason, shared?}, remains}

  defp split_remains({:ok, _pid} = outcome), do: {outcome, []}

  # The live process that an id has when its start has ended: a failed one may have left a guest.
  defp now(outcome, id, state) do
    if match?({:ok, _pid}, outcome) and Table.alive?(elem(outcome, 1)) do
      {outcome, true}
    else
      case Table.lookup_alive(state.name, id) do
        {:ok, _pid} = guest ->
          with {:failed, reason, _shared?} <- outcome, do: Held.let_go(reason)
          {guest, true}

        {:error, :not_found} ->
          {outcome, false}
      end
    end
  end

  @doc "A process has died: a starter, or a stranger, then there is nothing to do."
  @spec died(state, pid, reason :: term) :: state
  def died(state, pid, reason) do
    held = Enum.reject(state.held, &match?({:start, ^pid, _, _}, &1))
    {given, state} = pop_given(%{state | held: held}, pid)
    starting = Starters.starting(state.schedule.starters, pid)
    state = carry_out(state, Schedule.starter_died(state.schedule, pid, reason))

    with {:starting, id} <- starting do
      tell_of_killed(state, id, reason, given)
      update_in(state.failed, &(&1 + 1))
    else
      nil -> state
    end
  end

  defp pop_given(%{given: nil} = state, _starter), do: {nil, state}
  defp pop_given(state, starter), do: pop_in(state.given[starter])

  # A start whose starter was killed.
  defp tell_of_killed(state, id, reason, given) do
    with {queue_time, begun, span} <- given do
      now = System.monotonic_time()
      times = %{duration: now - begun, queue_time: queue_time, monotonic_time: now}
      how = Map.merge(span, %{id: id, kind: :exit, reason: reason, stacktrace: []})
      Events.emit(state.events, [:worker, :start, :exception], times, how)
    end

    Events.failed(state.events, id, {:starter_died, reason})
  end
end
