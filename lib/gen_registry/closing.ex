defmodule GenRegistry.Closing do
  @moduledoc false
  # What a registry's server says to its callers while the registry ends: a worker that waits for an
  # answer would not hear that it is to end.

  alias GenRegistry.{Callers, Earlier, Endings, Held, Overview, Schedule, Table, Waiting}

  @doc "Answers all who wait, and whose calls are in the mailbox."
  @spec answer_all(struct) :: :ok
  def answer_all(state) do
    for request <- Schedule.unanswered(state.schedule) do
      Callers.reply(Schedule.from(request), cut_off(request))
    end

    for from <- Waiting.froms(state.waiting), do: Callers.reply(from, :ended)

    answer_mailbox(state)
  end

  defp cut_off({:stop, _from}), do: :ok
  defp cut_off({:register, _from, _pid, _parent}), do: :no
  defp cut_off({_start, _from, _key, _work}), do: {:error, :shutdown}

  defp answer_mailbox(state) do
    receive do
      {:"$gen_call", from, request} ->
        answer(state, from, request)
        answer_mailbox(state)
    after
      0 -> :ok
    end
  end

  @doc "Answers a call that came meanwhile. Most of what is asked for is over."
  @spec answer(struct, from :: term, request :: term) :: :ok
  def answer(state, {pid, _tag} = from, {:in, {by, _wait} = in_which, request})
      when is_pid(pid) and is_pid(by),
      do: answer(state, Callers.in_which(from, in_which), request)

  def answer(state, {pid, _tag} = from, request) when is_pid(pid) do
    Callers.reply(from, reply(state, request))
  end

  def answer(_state, _nobody, _request), do: :ok

  defp reply(state, {kind, id, args})
       when kind in [:lookup_or_start, :start, :replace] and is_list(args),
       do: start(state, kind, id)

  defp reply(state, {kind, id, args, _deadline})
       when kind in [:lookup_or_start, :start, :replace] do
    if Held.held?(args), do: Held.let_go(args)
    start(state, kind, id)
  end

  defp reply(state, {:await, id}) do
    with {:error, :not_found} <- Table.lookup_alive(state.name, id), do: :ended
  end

  defp reply(state, {:stop, id}), do: stop(state, id)
  defp reply(_state, {:register, _id, _pid, _parent}), do: :no

  defp reply(state, question) when question in [:info, :which_children, :count_children],
    do: Overview.answer(question, state).()

  defp reply(_state, _unknown), do: {:error, :unknown_call}

  defp start(_state, :replace, _id), do: {:error, :shutdown}

  defp start(state, kind, id) do
    case Table.lookup_alive(state.name, id) do
      {:ok, pid} when kind == :start -> {:error, {:already_started, pid}}
      {:ok, pid} -> {:ok, pid}
      {:error, :not_found} -> {:error, :shutdown}
    end
  end

  # All workers have been told to end, or are about to be.
  defp stop(state, id) do
    case Table.lookup_alive(state.name, id) do
      {:ok, pid} ->
        if Table.known?(state.table, pid), do: :ok, else: {:error, :not_supervised}

      {:error, :not_found} ->
        ending? = Endings.worker(state.endings, id) != nil
        left? = ending? or Earlier.find(state.table, id) not in [:none, :not_found]
        if left?, do: :ok, else: {:error, :not_found}
    end
  end
end
