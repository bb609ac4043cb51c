defmodule GenRegistry.Request do
  @moduledoc false
  # Sends a request to the process of an id, in the caller. A process that was gone before it could have
  # seen the request is found or started again. A request that may have been handled is never sent twice.

  alias GenRegistry.{Table, Types}

  # Milliseconds between tries: none before the second one, then twice as many each time up to these.
  @longest_pause 64

  @doc "As `GenRegistry.call/4` does. Its caller exits with the reason."
  @spec call(GenRegistry.server(), Types.id(), term, list, timeout) ::
          {:ok, reply :: term} | {:exit, reason :: term}
  def call(registry, id, request, args, timeout) do
    with_process(registry, id, args, timeout, &ask(&1, request, &2))
  end

  @doc "As `GenRegistry.cast/4` does. Its caller exits with the reason."
  @spec cast(GenRegistry.server(), Types.id(), term, list, timeout) ::
          :ok | {:error, term} | {:exit, reason :: term}
  def cast(registry, id, message, args, timeout) do
    case with_process(registry, id, args, timeout, &tell(&1, message, &2)) do
      {:ok, :sent} -> :ok
      {:exit, {:start_failed, reason}} -> {:error, reason}
      {:exit, reason} -> {:exit, reason}
    end
  end

  # `fun` returns `{:again, limit}` if the process was gone before it could have seen what it was sent.
  defp with_process({name, node}, id, args, timeout, fun) when node == node(),
    do: with_process(name, id, args, timeout, fun)

  defp with_process(registry, id, args, timeout, fun) do
    try_with({registry, id, args}, {:in, timeout}, 0, fun)
  end

  defp try_with(target, limit, pause, fun) do
    with {:ok, pid, limit} <- find(target, limit),
         {:ok, _reply} = done <- fun.(pid, limit) do
      done
    else
      {:again, limit} -> try_again(target, fixed(limit), pause, fun)
      {:exit, reason} -> {:exit, reason}
    end
  end

  defp try_again(target, limit, pause, fun) do
    case left(limit) do
      0 ->
        {:exit, :timeout}

      left ->
        wait(min(pause, left))
        try_with(target, limit, min(max(2 * pause, 1), @longest_pause), fun)
    end
  end

  defp wait(milliseconds) do
    receive do
    after
      milliseconds -> :ok
    end
  end

  ## Finding or starting

  defp find({registry, id, _args} = target, limit) when is_atom(registry) do
    case Table.lookup_alive(registry, id) do
      {:ok, pid} -> {:ok, pid, limit}
      {:error, :not_found} -> start(target, fixed(limit))
    end
  rescue
    error in ArgumentError ->
      # Or it is no id, which no other registry would change.
      if Table.expected?(registry) and Table.id?(id),
        do: {:again, limit},
        else: reraise(error, __STACKTRACE__)
  end

  defp find(target, limit), do: start(target, fixed(limit))

  defp start({registry, id, args}, limit) do
    case GenRegistry.lookup_or_start(registry, id, args, left(limit)) do
      {:ok, pid} -> {:ok, pid, limit}
      {:error, reason} -> {:exit, {:start_failed, reason}}
    end
  catch
    :exit, {reason, {_module, :call, _args}} when reason in [:timeout, :calling_self] ->
      {:exit, reason}

    :exit, {reason, {_module, :call, _args}} ->
      if expected?(registry, limit), do: {:again, limit}, else: {:exit, reason}
  end

  # Whether a registry runs under the name, or will, since the last one was killed.
  defp expected?(name, _limit) when is_atom(name), do: Table.expected?(name)
  defp expected?(pid, _limit) when is_pid(pid), do: false

  defp expected?({name, node}, limit) do
    :erpc.call(node, Table, :expected?, [name], left(limit))
  catch
    # There was no time to ask.
    :error, {:erpc, :timeout} -> true
    # The node is not there, or its library is another one.
    :error, {:erpc, _reason} -> false
    :error, {:exception, _reason, _stacktrace} -> false
  end

  ## Sending

  defp ask(pid, _request, _limit) when pid == self(), do: {:exit, :calling_self}

  # A monitor that reaches a process at its end tells of no reason but `:noproc`, with which one may also
  # exit that has handled the request. So it is asked whether the process is alive, by a signal between
  # the monitor and the request, which are handled in this order. If it was, the monitor tells the true
  # reason; if not, the request was never read.
  #
  # A reply goes to the monitor's alias: one that comes too late is dropped. The references are made here,
  # and not in a function of their own: so the VM skips what was in the mailbox before.
  defp ask(pid, request, limit) when node(pid) == node() do
    monitor = :erlang.monitor(:process, pid, alias: :reply_demonitor)
    alive? = make_ref()

    # What `Process.alive?/1` does where it sends a signal, without the wait. That may also look at the
    # process's state while the monitor is on its way, and then it says nothing of the order.
    :erts_internal.is_process_alive(pid, alive?)
    send_request(pid, monitor, request)
    # While the process has something to do: to read the clock takes longer than to look an id up.
    limit = fixed(limit)

    # A process that does not handle signals is in a native function, or dead and being undone. So long,
    # there is no way back for this message: the timeout waits for it.
    receive do
      {^alive?, true} ->
        await(pid, monitor, limit)

      {^alive?, false} ->
        Process.demonitor(monitor, [:flush])
        {:again, limit}
    end
  end

  defp ask(pid, request, limit) do
    limit = fixed(limit)
    monitor = :erlang.monitor(:process, pid, alias: :reply_demonitor)

    case alive_there(pid, limit) do
      true ->
        send_request(pid, monitor, request)
        await(pid, monitor, limit)

      false ->
        Process.demonitor(monitor, [:flush])
        {:again, limit}

      {:exit, reason} ->
        Process.demonitor(monitor, [:flush])
        {:exit, reason}
    end
  end

  # After the monitor: the node handles in order what one process sends it.
  defp alive_there(pid, limit) do
    :erpc.call(node(pid), :erlang, :is_process_alive, [pid], left(limit))
  catch
    :error, {:erpc, :noconnection} -> {:exit, {:nodedown, node(pid)}}
    :error, {:erpc, reason} -> {:exit, reason}
  end

  # The tag of an alias is such a list.
  @dialyzer {:no_improper_lists, send_request: 3}
  defp send_request(pid, monitor, request) do
    send(pid, {:"$gen_call", {self(), [:alias | monitor]}, request})
  end

  defp await(pid, monitor, limit) do
    receive do
      {[:alias | ^monitor], reply} -> {:ok, reply}
      {:DOWN, ^monitor, _, _, {:shutdown, :idle}} -> {:again, limit}
      {:DOWN, ^monitor, _, _, reason} -> {:exit, reason(pid, reason)}
    after
      left(limit) ->
        Process.demonitor(monitor, [:flush])

        receive do
          {[:alias | ^monitor], reply} -> {:ok, reply}
        after
          0 -> {:exit, :timeout}
        end
    end
  end

  defp reason(pid, :noconnection) when node(pid) != node(), do: {:nodedown, node(pid)}
  defp reason(_pid, reason), do: reason

  defp tell(pid, message, limit) do
    if node(pid) != node() or Table.alive?(pid) do
      send(pid, {:"$gen_cast", message})
      {:ok, :sent}
    else
      {:again, limit}
    end
  end

  ## Time: `{:in, timeout}` from now on, as nothing has taken any yet, or `{:at, deadline}`

  defp fixed({:in, :infinity}), do: {:at, :infinity}
  defp fixed({:in, milliseconds}), do: {:at, now() + milliseconds}
  defp fixed({:at, _deadline} = limit), do: limit

  defp left({:at, :infinity}), do: :infinity
  defp left({:at, deadline}), do: max(deadline - now(), 0)

  defp now, do: System.monotonic_time(:millisecond)
end
