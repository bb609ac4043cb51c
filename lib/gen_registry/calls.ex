defmodule GenRegistry.Calls do
  @moduledoc false
  # Asks a registry's process for starts, stops and names, in the caller. One that is in a start says so,
  # and is told at once if it would wait for itself.

  alias GenRegistry.{Deadline, Deadlock, Held, Nested, Server, Table}

  @doc """
  As `GenRegistry.start/4` and `GenRegistry.lookup_or_start/4` do, of an id without a process, and as
  `GenRegistry.replace/4` does.
  """
  @spec start(module, GenRegistry.server(), atom, term, list, timeout) ::
          {:ok, pid} | {:error, term}
  def start(gen, registry, kind, id, args, timeout) do
    by = Nested.in_which()
    name = if is_atom(registry) or by != nil, do: own_name(gen, registry)
    shown = {kind, id, args}

    Deadlock.avoid(by, name, id, fn asking ->
      # The registry itself, by its name, is also told until when the caller waits, and the arguments
      # stay out of its heap; and it is told in which start the caller is, whatever it is called by. A
      # process that stands in for it, and one that may be of another version, get the request.
      request =
        if name, do: {kind, id, Held.hold(args), Deadline.after_timeout(timeout)}, else: shown

      ask = fn -> ask(gen, registry, request, shown, timeout, asking) end
      giving_up(registry, id, fn -> at_its_end({:error, :shutdown}, ask) end)
    end)
  end

  # So that nothing is started any more for a caller who does not wait.
  defp giving_up(registry, id, ask) do
    ask.()
  catch
    :exit, {:timeout, _} = reason ->
      Server.gave_up(registry, id)
      :erlang.raise(:exit, reason, __STACKTRACE__)
  end

  @doc "As `GenRegistry.stop/3` does, of what may be an id."
  @spec stop(module, GenRegistry.server(), term, timeout) ::
          :ok
          | {:error, :not_found | :not_supervised | {:deadlock, [{GenRegistry.name(), term}]}}
  def stop(gen, registry, id, timeout) do
    by = Nested.in_which()
    name = if by != nil, do: own_name(gen, registry)
    request = {:stop, id}

    # Its own start or end it need not wait for.
    Deadlock.avoid_others(by, name, id, &ask(gen, registry, request, request, timeout, &1))
  end

  @doc "As `GenRegistry.info/1` does."
  @spec info(module, GenRegistry.server()) :: GenRegistry.info()
  def info(gen, registry), do: ask(gen, registry, :info, :info, 5_000, nil)

  @doc "As `GenRegistry.await/3` does, of an id without a process."
  @spec await(module, GenRegistry.server(), term, timeout) :: {:ok, pid}
  def await(gen, registry, id, timeout) do
    request = {:await, id}

    with :ended <- ask(gen, registry, request, request, timeout, nil), do: exit(:shutdown)
  catch
    :exit, reason ->
      reason = with {reason, {GenServer, :call, _}} <- reason, do: reason
      if reason == :timeout, do: Server.gave_up(registry, id)
      exit({reason, {GenRegistry, :await, [registry, id, timeout]}})
  end

  @doc "As `GenRegistry.register_name/2` does, of an id without a process."
  @spec register(module, GenRegistry.name(), term, pid) :: :yes | :no
  def register(gen, registry, id, pid) do
    by = Nested.in_which()
    name = if by != nil, do: own_name(gen, registry)
    request = {:register, id, pid, parent(pid)}

    # In its own start an id is given to the worker, in its end to nobody.
    answer =
      Deadlock.avoid_others(by, name, id, fn asking ->
        at_its_end(:no, fn -> ask(gen, registry, request, request, :infinity, asking) end)
      end)

    with {:error, {:deadlock, _circle}} <- answer, do: :no
  end

  # By which a worker is known that is being started, and asks for its own name.
  defp parent(pid) when pid != self(), do: nil

  defp parent(_self) do
    case Process.get(:"$ancestors") do
      [parent | _] when is_pid(parent) -> parent
      _ -> nil
    end
  end

  # A registry that ends in order may do so before it reads a request.
  defp at_its_end(answer, ask) do
    ask.()
  catch
    :exit, {reason, {GenServer, :call, _}} when reason in [:normal, :shutdown] -> answer
    :exit, {{:shutdown, _}, {GenServer, :call, _}} -> answer
  end

  # If there is no answer, exits as if the request had been sent as it is `shown`.
  defp ask(gen, registry, request, shown, timeout, asking) do
    call(gen, registry, request, timeout, asking)
  catch
    # A registry that restarts has its name before it has a table: so only the call can tell.
    :exit, {:noproc, {GenServer, :call, _}} when is_atom(registry) ->
      Table.not_running(registry)

    :exit, {reason, {GenServer, :call, [_, _, _]}} ->
      call = {GenServer, :call, [registry, shown, timeout]}
      :erlang.raise(:exit, {reason, call}, __STACKTRACE__)
  end

  defp call(gen, registry, request, timeout, {in_which, in_doubt?}) do
    request = {:in, in_which, request}

    if in_doubt?,
      do: Deadlock.call(registry, elem(elem(request, 2), 1), request, timeout),
      else: call(gen, registry, request, timeout, nil)
  end

  defp call(gen, registry, request, timeout, nil) do
    case gen == GenServer and GenServer.whereis(registry) do
      pid when is_pid(pid) and node(pid) == node() and pid != self() ->
        call(pid, request, timeout)

      _ ->
        gen.call(registry, request, timeout)
    end
  end

  # As `GenServer.call/3`, but that the first reply makes the VM drop all others at once: a registry that ends
  # replies to all, and a start that still runs may do so at the same time.
  #
  # The reference is made here: so the VM skips what was in the mailbox before.
  @dialyzer {:no_improper_lists, call: 3}
  defp call(pid, request, timeout) do
    monitor = :erlang.monitor(:process, pid, alias: :reply_demonitor)
    send(pid, {:"$gen_call", {self(), [:alias | monitor]}, request})

    receive do
      {[:alias | ^monitor], reply} -> reply
      {:DOWN, ^monitor, _, _, reason} -> no_answer(reason, pid, request, timeout)
    after
      timeout ->
        Process.demonitor(monitor, [:flush])

        receive do
          {[:alias | ^monitor], reply} -> reply
        after
          0 -> no_answer(:timeout, pid, request, timeout)
        end
    end
  end

  defp no_answer(reason, pid, request, timeout),
    do: exit({reason, {GenServer, :call, [pid, request, timeout]}})

  # The name of a registry of this VM, if what is called is that itself.
  defp own_name(GenServer, name) when is_atom(name),
    do: if(Process.whereis(name) == Table.owner(name), do: name)

  defp own_name(GenServer, {name, node}) when node == node(), do: own_name(GenServer, name)

  defp own_name(GenServer, pid) when is_pid(pid) and node(pid) == node() do
    with {:registered_name, name} <- Process.info(pid, :registered_name),
         true <- Table.owner(name) == pid do
      name
    else
      _ -> nil
    end
  end

  defp own_name(_gen, _registry), do: nil
end
