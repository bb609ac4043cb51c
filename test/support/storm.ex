defmodule StormWorker do
  @moduledoc """
  Workers of every kind that make it hard to have one per id, each counted by a `Census`.
  """

  use GenServer

  @kinds [
    :plain,
    :trapping,
    :slow,
    :unlinking,
    :without_link,
    :failing,
    :raising,
    :ignoring,
    :nesting,
    :named,
    :named_failing
  ]

  @doc "The kinds. There are also those that are `:stubborn`: they have to be killed."
  def kinds, do: @kinds

  def start_link(census, registry, index, kind) do
    init = {census, registry, index, kind}

    case kind do
      :without_link ->
        GenServer.start(__MODULE__, init)

      named when named in [:named, :named_failing] ->
        GenServer.start_link(__MODULE__, init, name(init))

      _ ->
        GenServer.start_link(__MODULE__, init)
    end
  end

  @doc "Starts one elsewhere, that takes the id."
  def start_guest(census, registry, index, kind) do
    init = {census, registry, index, kind}
    GenServer.start(__MODULE__, init, name(init))
  end

  defp name({_, registry, index, _}), do: [name: {:via, GenRegistry, {registry, index}}]

  @impl true
  def init({census, registry, index, kind}) do
    number = Census.enter(census, index)

    case kind do
      kind when kind in [:plain, :without_link, :named] ->
        {:ok, kind}

      kind when kind in [:trapping, :slow, :stubborn] ->
        Process.flag(:trap_exit, true)
        {:ok, kind}

      :unlinking ->
        [parent | _] = Process.get(:"$ancestors")
        Process.unlink(parent)
        {:ok, kind}

      failing when failing in [:failing, :named_failing] ->
        Census.leave(census, number)
        {:stop, {:shutdown, :failed}}

      :raising ->
        Census.leave(census, number)
        exit({:shutdown, :raised})

      :ignoring ->
        Census.leave(census, number)
        :ignore

      # Only ids further on, so that no two wait for each other.
      :nesting ->
        if index < :atomics.info(census.cells).size do
          args = [census, registry, index + 1, :plain]
          Lifecycle.attempt(fn -> GenRegistry.lookup_or_start(registry, index + 1, args) end)
        end

        {:ok, kind}
    end
  end

  @impl true
  def handle_call(:who, _from, state), do: {:reply, self(), state}

  @impl true
  def handle_cast(:message, state), do: {:noreply, state}

  @impl true
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, :slow), do: for(_ <- 1..500, do: :erlang.yield())
  def terminate(_reason, :stubborn), do: Lifecycle.hang()
  def terminate(_reason, _kind), do: :ok
end

defmodule Storm do
  @moduledoc """
  Callers that do at random what can be done with a registry of `StormWorker`s.
  """

  defstruct [:registry, :census, :ids, :kinds, :over, :operations, :caller, callers: []]

  # As often as they stand here.
  @actions List.duplicate(:lookup_or_start, 8) ++
             List.duplicate(:start, 4) ++
             List.duplicate(:call, 4) ++
             List.duplicate(:replace, 2) ++
             List.duplicate(:await, 1) ++
             List.duplicate(:cast, 2) ++
             List.duplicate(:give_up, 1) ++
             List.duplicate(:be_guest, 2) ++
             List.duplicate(:stop, 4) ++
             List.duplicate(:stop_and_leave, 1) ++
             List.duplicate(:kill, 3) ++
             List.duplicate(:kill_and_ask, 3) ++
             List.duplicate(:kill_starter, 1) ++
             List.duplicate(:lookup, 4) ++
             List.duplicate(:count, 1)

  @doc "Begins a storm of so many callers, until `finish/1`."
  def begin(registry, callers, ids, seed, kinds) do
    storm = %__MODULE__{
      registry: registry,
      census: Census.new(ids),
      ids: ids,
      kinds: kinds,
      over: :atomics.new(1, []),
      operations: :counters.new(1, [:write_concurrency])
    }

    callers =
      for n <- 1..callers do
        Task.async(fn ->
          :rand.seed(:exsss, {seed, n, 0})
          go_on(%{storm | caller: {n - 1, callers}}, [])
        end)
      end

    %{storm | callers: callers}
  end

  @doc "How much was done."
  def operations(storm), do: :counters.get(storm.operations, 1)

  @doc "Answers the faults, when all callers have ended: `[{:dead | :unexpected, what}]`."
  def finish(storm) do
    :atomics.put(storm.over, 1, 1)
    storm.callers |> Task.await_many(60_000) |> Enum.concat()
  end

  @doc "Whether it has been finished."
  def over?(storm), do: :atomics.get(storm.over, 1) == 1

  defp go_on(storm, faults) do
    if over?(storm) do
      faults
    else
      action = Enum.random(@actions)
      index = :rand.uniform(storm.ids)
      faults = act(storm, action, index) ++ faults
      :counters.add(storm.operations, 1, 1)
      go_on(storm, faults)
    end
  end

  @doc "Does one thing with an id; returns the faults."
  def act(storm, action, index) when action in [:lookup_or_start, :start] do
    seen = Census.seen(storm.census, index)
    args = args(storm, index)
    call = fn -> apply(GenRegistry, action, [storm.registry, index, args, :infinity]) end
    judge(storm, action, seen, Lifecycle.attempt(call))
  end

  # Though the registry is killed, they are told of no registry that is not running.
  def act(storm, :call, index) do
    seen = Census.seen(storm.census, index)
    opts = [args: args(storm, index), timeout: :infinity]

    case Lifecycle.attempt(fn -> GenRegistry.call(storm.registry, index, :who, opts) end) do
      pid when is_pid(pid) ->
        judge(storm, :call, seen, {:ok, pid})

      {:exit, {{:start_failed, why}, {GenRegistry, :call, _}}} when not is_exception(why) ->
        judge(storm, :call, seen, {:error, why})

      # Of the process while it had the request: also of one that took its name, and then failed.
      {:exit, {reason, {GenRegistry, :call, _}}}
      when reason in [:killed, :shutdown, :normal, {:shutdown, :failed}] ->
        []

      other ->
        [{:unexpected, {:call, other}}]
    end
  end

  def act(storm, :cast, index) do
    opts = [args: args(storm, index), timeout: :infinity]

    case Lifecycle.attempt(fn -> GenRegistry.cast(storm.registry, index, :message, opts) end) do
      :ok -> []
      {:error, why} when not is_exception(why) -> judge(storm, :cast, {0, true}, {:error, why})
      other -> [{:unexpected, {:cast, other}}]
    end
  end

  def act(storm, :replace, index) do
    seen = Census.seen(storm.census, index)
    args = args(storm, index)
    call = fn -> GenRegistry.replace(storm.registry, index, args, :infinity) end

    case Lifecycle.attempt(call) do
      {:error, :not_supervised} -> []
      answer -> judge(storm, :replace, seen, answer)
    end
  end

  def act(storm, :await, index) do
    seen = Census.seen(storm.census, index)

    case Lifecycle.attempt(fn -> GenRegistry.await(storm.registry, index, 20) end) do
      {:ok, pid} ->
        dead(storm, seen, pid)

      {:error, %ArgumentError{}} ->
        []

      {:exit, {reason, {GenRegistry, :await, _}}} when reason in [:timeout, :killed, :noproc] ->
        []

      other ->
        [{:unexpected, {:await, other}}]
    end
  end

  def act(storm, :give_up, index) do
    args = args(storm, index)
    Lifecycle.attempt(fn -> GenRegistry.start(storm.registry, index, args, 0) end)
    []
  end

  # In a process that is gone soon after: whoever kills the parents of workers may kill it.
  def act(storm, :be_guest, index) do
    seen = Census.seen(storm.census, index)
    kind = Enum.random([:plain, :trapping, :slow, :failing, :ignoring])

    {_pid, monitor} =
      spawn_monitor(fn ->
        start = fn -> StormWorker.start_guest(storm.census, storm.registry, index, kind) end
        exit({:answer, Lifecycle.attempt(start)})
      end)

    receive do
      {:DOWN, ^monitor, _, _, {:answer, answer}} -> judge(storm, :start, seen, answer)
      {:DOWN, ^monitor, _, _, :killed} -> []
    end
  end

  def act(storm, :stop, index) do
    case Lifecycle.attempt(fn -> GenRegistry.stop(storm.registry, index) end) do
      :ok -> []
      {:error, :not_found} -> []
      {:error, :not_supervised} -> []
      {:error, %ArgumentError{}} -> []
      {:exit, {_, {GenServer, :call, _}}} -> []
      other -> [{:unexpected, {:stop, other}}]
    end
  end

  def act(storm, :stop_and_leave, index) do
    Lifecycle.attempt(fn -> GenRegistry.stop(storm.registry, index, 0) end)
    []
  end

  def act(storm, :kill, index) do
    with {:ok, pid} <- lookup(storm, index), do: Process.exit(pid, :kill)
    []
  end

  # Asks as soon as it is known that the worker is dead. A process can be traced by one other only,
  # so each caller has ids of its own for that.
  def act(storm, :kill_and_ask, index) do
    {caller, callers} = storm.caller
    index = index - rem(index - 1, callers) + caller

    with {:ok, pid} <- lookup(storm, index),
         1 <- Lifecycle.attempt(fn -> :erlang.trace(pid, true, [:procs]) end) do
      Process.exit(pid, :kill)
      exited(pid)
      args = args(storm, index)
      call = fn -> GenRegistry.lookup_or_start(storm.registry, index, args, :infinity) end
      answer = Lifecycle.attempt(call)
      dead = if answer == {:ok, pid}, do: [{:dead, pid}], else: []
      dead ++ judge(storm, :lookup_or_start, {0, true}, answer)
    else
      # There is none, or it is dead.
      _ -> []
    end
  end

  def act(storm, :kill_starter, index) do
    with {:ok, pid} <- lookup(storm, index),
         {:parent, starter} when is_pid(starter) <- Process.info(pid, :parent),
         do: Process.exit(starter, :kill)

    []
  end

  def act(storm, :lookup, index) do
    case lookup(storm, index) do
      {:ok, pid} when is_pid(pid) -> []
      {:error, :not_found} -> []
      {:error, %ArgumentError{}} -> []
      other -> [{:unexpected, {:lookup, other}}]
    end
  end

  def act(storm, :count, _index) do
    case Lifecycle.attempt(fn -> GenRegistry.count(storm.registry) end) do
      {:error, %ArgumentError{}} -> []
      count when count in 0..storm.ids//1 -> []
      other -> [{:unexpected, {:count, other}}]
    end
  end

  defp lookup(storm, index) do
    Lifecycle.attempt(fn -> GenRegistry.lookup(storm.registry, index) end)
  end

  defp args(storm, index), do: [storm.census, storm.registry, index, Enum.random(storm.kinds)]

  defp judge(storm, action, seen, answer) do
    case {action, answer} do
      # It ended as it took its name.
      {action, {:error, {:already_started, :undefined}}} when action in [:call, :cast] -> []
      {_, {:ok, pid}} -> dead(storm, seen, pid)
      # It was there, and had gone when it was looked for.
      {:start, {:error, {:already_started, :undefined}}} -> []
      {:start, {:error, {:already_started, pid}}} -> dead(storm, seen, pid)
      {_, {:error, {:shutdown, why}}} when why in [:failed, :raised] -> []
      {_, {:error, :ignore}} -> []
      {:start, :ignore} -> []
      {_, {:error, {:starter_died, _}}} -> []
      # The worker was killed before it was registered, or there is no registry.
      {_, {:error, reason}} when reason in [:killed, :noproc, :shutdown] -> []
      {_, {:error, %ArgumentError{}}} -> []
      # What asked for its name while there was none.
      {_, {:error, {%ArgumentError{}, _stacktrace}}} -> []
      {_, {:error, {_, {GenServer, :call, _}}}} -> []
      {_, {:exit, {_, {GenServer, :call, _}}}} -> []
      other -> [{:unexpected, other}]
    end
  end

  defp dead(storm, seen, pid) do
    if Census.was_dead?(storm.census, seen, pid), do: [{:dead, pid}], else: []
  end

  # Also takes what else a trace tells out of the mailbox.
  defp exited(pid) do
    receive do
      {:trace, ^pid, :exit, _} -> :ok
      {:trace, _, _, _} -> exited(pid)
    end
  end
end
