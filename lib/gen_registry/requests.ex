defmodule GenRegistry.Requests do
  @moduledoc false
  # What a registry's server does with a request: it replies at once, or hands the request to the schedule.
  import GenRegistry.Actions,
    only: [act: 2, await_left: 3, bounded?: 1, carry_out: 2, refused: 2]

  alias GenRegistry.{Callers, Earlier, Endings, Held, Schedule, Table, Types}

  @typedoc "The state of `GenRegistry.Server`."
  @type state :: struct

  @doc "A stop of an id's worker."
  @spec stop(state, Types.id(), Callers.from()) :: state
  def stop(state, id, {caller, _} = from) do
    # It cannot end while it waits for its own end.
    if ends?(state, id, from) or Endings.worker(state.endings, id) == caller,
      do: reply(state, from, :ok),
      else: request(state, id, {:stop, from})
  end

  defp ends?(state, id, from) do
    by = Callers.by(from)
    by != nil and Table.ends?(state.table, id, by)
  end

  defp reply(state, from, reply) do
    Callers.reply(from, reply)
    state
  end

  @doc "A start of an id's worker, or a replacement."
  @spec start(state, atom, Types.id(), Callers.from(), Held.t()) :: state
  def start(state, kind, id, from, args) do
    # What is being ended for the id waits for its own end, although there may be another process.
    if ends?(state, id, from) and not found?(state, kind, id) do
      Held.let_go(args)
      reply(state, from, {:error, {:deadlock, [{state.name, id}]}})
    else
      start_or_find(state, kind, id, from, args)
    end
  end

  defp found?(_state, :replace, _id), do: false
  defp found?(state, _start, id), do: match?({:ok, _}, Table.lookup_alive(state.name, id))

  defp start_or_find(state, :replace, id, from, args) do
    request(state, id, {:replace, from, nil, {args, received(state)}})
  end

  defp start_or_find(state, kind, id, from, args) do
    case Table.lookup_alive(state.name, id) do
      {:ok, pid} ->
        Held.let_go(args)

        reply(
          state,
          from,
          if(kind == :start, do: {:error, {:already_started, pid}}, else: {:ok, pid})
        )

      {:error, :not_found} ->
        request(state, id, {kind, from, Held.key(args), {args, received(state)}})
    end
  end

  @doc "A process is to have an id."
  @spec register(state, Types.id(), Callers.from(), pid, parent :: pid | nil) :: state
  def register(state, id, from, pid, parent) do
    # In its own end a worker cannot wait for that.
    with true <- Table.local?(pid) and pid != state.events,
         false <- ends?(state, id, from),
         {:error, :not_found} <- Table.lookup_alive(state.name, id) do
      request(state, id, {:register, from, pid, parent})
    else
      _ -> reply(state, from, :no)
    end
  end

  defp received(%{given: nil}), do: nil
  defp received(_state), do: System.monotonic_time()

  defp request(state, id, request) do
    {left, state} = left(state, id)
    {caller, _} = from = Schedule.from(request)
    by = Callers.by(from)

    cond do
      # What has the id would wait for its own end.
      left != nil and (elem(left, 0) in [caller, by] or left == {:starter, by}) ->
        act(state, {:reply, request, of_itself(request, state.name, id)})

      left == nil and no_room?(state, id, request) ->
        state = refused(state, id)
        act(state, {:reply, request, {:error, :max_children}})

      true ->
        Callers.heard(from)
        state = %{state | callers: Callers.watch(state.callers, id, from)}
        state = if left, do: await_left(state, id, left), else: state
        carry_out(state, Schedule.request(state.schedule, id, request, by))
    end
  end

  # What an earlier registry has left of an id that is not in flight.
  defp left(%{earlier?: false} = state, _id), do: {nil, state}

  defp left(state, id) do
    if Schedule.in_flight?(state.schedule, id) do
      {nil, state}
    else
      case Earlier.find(state.table, id) do
        :none -> {nil, %{state | earlier?: false}}
        :not_found -> {nil, state}
        left -> {left, state}
      end
    end
  end

  defp of_itself({:stop, _from}, _name, _id), do: :ok
  defp of_itself({:register, _from, _pid, _parent}, _name, _id), do: :no
  defp of_itself(_start, name, id), do: {:error, {:deadlock, [{name, id}]}}

  # Where there is no room, whoever asks for a start is told so at once, rather than when its turn comes.
  # But an id in flight may need none, or its own: as may any, while it is not known what is left of others.
  defp no_room?(state, id, request) do
    elem(request, 0) in [:start, :lookup_or_start] and bounded?(state) and
      state.clearing == %{} and not Schedule.in_flight?(state.schedule, id) and
      not Table.room?(state.table, id)
  end
end
