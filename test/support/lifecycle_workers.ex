defmodule LifecycleWorker do
  @moduledoc """
  A worker whose init and end are written by the test that starts it.

      GenRegistry.lookup_or_start(registry, id, [fn -> {:ok, nil} end])

  The function runs in the worker's init and answers for it. Its state is `nil`, or a function that
  is called with the reason in `terminate/2`.
  """

  use GenServer

  def start_link(init), do: GenServer.start_link(__MODULE__, init)

  def start_link(:without_link, init), do: GenServer.start(__MODULE__, init)
  # A `start_link` of the test's own.
  def start_link(:answer, start_link), do: start_link.()

  @doc "Runs a function in the worker, and answers what it answers."
  def run(worker, fun), do: GenServer.call(worker, {:run, fun}, :infinity)

  @impl true
  def init(init), do: init.()

  @impl true
  def handle_call({:run, fun}, _from, state), do: {:reply, fun.(), state}

  @impl true
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(reason, at_end) when is_function(at_end), do: at_end.(reason)
  def terminate(_reason, nil), do: :ok
end

defmodule Lifecycle do
  @moduledoc """
  Steps of the tests of workers' lives. They wait for events, never for time to pass.
  """

  import ExUnit.Assertions

  # What never comes because of a fault is missed after this long.
  @patience 60_000

  @doc "Starts a registry of the test's own, under a supervisor; answers its name."
  def registry(%{module: module, test: test}, opts \\ []) do
    name = Module.concat(module, test)
    opts = Keyword.merge([worker_module: LifecycleWorker, name: name], opts)

    # As often as tests may kill it.
    options = [strategy: :one_for_one, max_restarts: 1_000_000, name: supervisor(name)]

    ExUnit.Callbacks.start_supervised!(%{
      id: name,
      start: {Supervisor, :start_link, [[{GenRegistry, opts}], options]},
      type: :supervisor,
      shutdown: :infinity
    })

    name
  end

  @doc "Has a registry ended by its supervisor."
  def end_registry(name), do: Supervisor.terminate_child(supervisor(name), name)

  @doc "Has it started again after that, if it was ended."
  def begin_registry(name), do: Supervisor.restart_child(supervisor(name), name)

  defp supervisor(name), do: Module.concat(name, Supervisor)

  @doc """
  Calls a function of `GenRegistry` in a process of its own, and answers that process once it waits
  for its answer (then its message has been sent) or has it. `answer/1` waits for the answer.
  """
  def ask(function, registry, id), do: ask(fn -> apply(GenRegistry, function, [registry, id]) end)

  def ask(function, registry, id, args, timeout \\ :infinity) do
    ask(fn -> apply(GenRegistry, function, [registry, id, args, timeout]) end)
  end

  @doc "As `ask/3`, for any call."
  def ask(fun) do
    asker = asker(fun)
    await_call(asker.pid)
    asker
  end

  @doc "As `ask/1`, for all of them at once."
  def ask_all(funs) do
    askers = Enum.map(funs, &asker/1)
    for asker <- askers, do: await_call(asker.pid)
    askers
  end

  defp asker(fun) do
    test = self()
    ref = make_ref()
    %{ref: ref, pid: spawn(fn -> send(test, {ref, attempt(fun)}) end)}
  end

  @doc "What a function answers, or `{:error, exception}` or `{:exit, reason}`."
  def attempt(fun) do
    fun.()
  catch
    kind, reason -> {kind, reason}
  end

  @doc "Returns when a process waits for the answer to a call, or is dead."
  def await_call(pid) do
    case Process.info(pid, [:status, :current_function]) do
      # The modules in which processes wait for the answer to a call, or for the end of another.
      [status: :waiting, current_function: {module, _, _}] when module in [:gen, :proc_lib] -> :ok
      nil -> :ok
      _ -> await_call(pid)
    end
  end

  @doc "What the process of `ask/1` was answered."
  def answer(%{ref: ref}) do
    assert_receive {^ref, answer}, @patience
    answer
  end

  @doc "Checks that the process of `ask/1` waits, after the registry has handled all it was sent."
  def assert_waits(%{ref: ref, pid: pid}, registry) do
    :sys.get_state(registry, :infinity)
    assert Process.alive?(pid)
    refute_received {^ref, _}
  end

  @doc "In a worker: tells the test where it is, and goes on when the test says `go/1`."
  def wait(test, where) do
    send(test, {where, self()})

    receive do
      :go -> :ok
    end
  end

  def go(pid), do: send(pid, :go)

  @doc "Never returns."
  def hang do
    receive do
      :never -> :ok
    end
  end

  @doc "The worker that has told where it is, see `wait/2`."
  def reached(where) do
    assert_receive {^where, pid}, @patience
    pid
  end

  @doc "An init that waits, then answers `result`."
  def held(where, result \\ {:ok, nil}) do
    test = self()

    fn ->
      wait(test, where)
      result
    end
  end

  @doc "An init of a worker that traps exits, and waits in its end; it says `{where, reason}`."
  def held_at_end(where) do
    test = self()

    fn ->
      Process.flag(:trap_exit, true)
      {:ok, fn reason -> wait(test, {where, reason}) end}
    end
  end

  @doc "An init of a worker that traps exits and never ends."
  def stubborn do
    fn ->
      Process.flag(:trap_exit, true)
      {:ok, fn _reason -> hang() end}
    end
  end

  @doc "An init without a story."
  def plain, do: fn -> {:ok, nil} end

  @doc "Starts a worker."
  def start!(registry, id, init \\ plain()) do
    assert {:ok, pid} = GenRegistry.start(registry, id, [init], :infinity)
    pid
  end

  @doc "The starter of a worker, which is its parent."
  def starter(worker) do
    {:parent, starter} = Process.info(worker, :parent)
    starter
  end

  @doc "Kills a process, and returns when its end has been seen."
  def kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, _, _, _}, @patience
    :ok
  end

  @doc """
  Kills a process that has much to undo, and returns when it is dead and the VM is about that.

  `Process.alive?/1` would wait for the end of it.
  """
  def strike(pid) do
    monitor = Process.monitor(pid)
    :erlang.trace(pid, true, [:procs])
    Process.exit(pid, :kill)
    assert_receive {:trace, ^pid, :exit, :killed}, @patience
    monitor
  end

  @doc "Whether a process that was struck has not yet been undone."
  def being_undone?(monitor) do
    receive do
      {:DOWN, ^monitor, _, _, _} -> false
    after
      0 -> true
    end
  end

  @doc """
  Calls a function with how much a process shall have to undo, until it answers that what it did
  was done before that was.

  If it was not, that may be the machine's fault, which gave the time to others: then there has to
  be more to undo.
  """
  def while_undone(size, fun, tries \\ 4) do
    unless fun.(size) do
      assert tries > 1, "it was never done before all was undone"
      while_undone(2 * size, fun, tries - 1)
    end
  end

  @doc "Gives a process much to undo at its end: a table of so many rows."
  def own_large_table(rows) do
    table = :ets.new(:large, [:public])
    for part <- Enum.chunk_every(1..rows, 10_000), do: :ets.insert(table, Enum.map(part, &{&1}))
    :ok
  end

  @doc "Gives a process much to undo at its end: so many links."
  def link_to_many(links) do
    for _ <- 1..links do
      spawn_link(fn ->
        Process.flag(:trap_exit, true)
        hang()
      end)
    end

    :ok
  end

  @doc """
  Monitors a process, and returns once the monitor is in place.

  A monitor is set by a signal, and signals have an order only between the same two processes. What
  others do to the process may come first, even if they were asked for it later: then the monitor
  tells of no reason but `:noproc`.
  """
  def watch(pid) do
    monitor = Process.monitor(pid)
    until(fn -> watched?(pid) end)
    monitor
  end

  # Or dead: then the monitor tells.
  defp watched?(pid) do
    case Process.info(pid, :monitored_by) do
      {:monitored_by, watchers} -> self() in watchers
      nil -> true
    end
  end

  @doc "Waits for the end of a process."
  def down(pid) do
    pid |> Process.monitor() |> down_of()
    :ok
  end

  @doc "Waits for the end that a monitor watches for; answers the reason."
  def down_of(monitor) do
    assert_receive {:DOWN, ^monitor, _, _, reason}, @patience
    reason
  end

  @doc """
  Checks that a process is dead by now; answers the reason, which its monitor tells.

  That may be on its way yet: of those who watch a process, one is told after the other.
  """
  def ended(pid, monitor) do
    refute Process.alive?(pid)
    down_of(monitor)
  end

  @doc "Returns when a condition is met, which has to be soon."
  def until(fun), do: until(fun, System.monotonic_time(:millisecond) + @patience)

  defp until(fun, deadline) do
    unless fun.() do
      assert System.monotonic_time(:millisecond) < deadline, "it never came true"
      :erlang.yield()
      until(fun, deadline)
    end
  end

  @doc "The registry's new process, once it serves after the end of `last`."
  def restarted(name, last) do
    # The supervisor answers when it is not about a restart.
    until(fn ->
      [{_, server, _, _}] = Supervisor.which_children(supervisor(name))
      is_pid(server) and server != last
    end)

    Process.whereis(name)
  end

  @doc """
  Checks that a function answers a number of milliseconds that is within a limit: once of three
  times, for the machine may give its time to others.
  """
  def assert_in_time(limit, fun, times \\ 3) do
    time = fun.()

    if time > limit and times > 1 do
      assert_in_time(limit, fun, times - 1)
    else
      assert time <= limit
    end
  end

  @doc "Milliseconds that a function took."
  def timed(fun) do
    {microseconds, _} = :timer.tc(fun)
    div(microseconds, 1_000)
  end
end

defmodule Census do
  @moduledoc """
  Sees every overlap of two workers of one id, however short.

  A worker enters, first thing in its init, by putting its number into the cell of its id, in one
  step, and looks at whoever was there before. If that one is alive, there are two. Nobody can be
  missed: of two that overlap, one enters later, and finds the other one, or one in between that
  found it.

  So the cell also tells of which workers it is known that they are dead, see `seen/2`.
  """

  defstruct [:cells, :people, :numbers, :highest]

  def new(ids) do
    %__MODULE__{
      cells: :atomics.new(ids, []),
      # `{number, pid}` and `{pid, number}`; and `{{:before, number}, number}`.
      people: :ets.new(:census, [:public, write_concurrency: true, read_concurrency: true]),
      numbers: :atomics.new(1, []),
      highest: :atomics.new(1, [])
    }
  end

  @doc "In a worker's init: counts it in."
  def enter(census, index) do
    number = :atomics.add_get(census.numbers, 1, 1)
    :ets.insert(census.people, [{number, self()}, {self(), number}])
    before = :atomics.exchange(census.cells, index, number)
    :ets.insert(census.people, {{:before, number}, before})
    raise_to(census.highest, 1 + living(census, before))
    number
  end

  @doc "In a worker whose init fails, last thing: counts it out. Others are out when they are dead."
  def leave(census, number), do: :ets.insert(census.people, {number, nil})

  @doc "How many have entered."
  def entered(census), do: :atomics.get(census.numbers, 1)

  @doc "The highest number of workers that an id had at once."
  def highest(census), do: :atomics.get(census.highest, 1)

  @doc "All who live."
  def alive(census) do
    for [pid] <- :ets.match(census.people, {:"$1", :_}),
        is_pid(pid),
        [{_, number}] = :ets.lookup(census.people, pid),
        alive?(census, number),
        do: pid
  end

  @doc "Before a call: the last one of an id, and whether it is dead already."
  def seen(census, index) do
    number = :atomics.get(census.cells, index)
    {number, not alive?(census, number)}
  end

  @doc "Whether a process that was answered was dead before the call: what was `seen/2` tells."
  def was_dead?(census, {number, dead?}, pid) do
    [{_, answered}] = :ets.lookup(census.people, pid)
    answered < number or (answered == number and dead?)
  end

  # How many in a row are alive, from this one back.
  defp living(census, number) do
    if alive?(census, number) do
      case :ets.lookup(census.people, {:before, number}) do
        [{_, before}] -> 1 + living(census, before)
        [] -> 1
      end
    else
      0
    end
  end

  defp alive?(census, number) do
    case :ets.lookup(census.people, number) do
      [{_, pid}] when is_pid(pid) -> Process.alive?(pid)
      _ -> false
    end
  end

  defp raise_to(cell, value) do
    highest = :atomics.get(cell, 1)

    if value > highest and :atomics.compare_exchange(cell, 1, highest, value) != :ok do
      raise_to(cell, value)
    end
  end
end

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
    :nesting
  ]

  @doc "The kinds. There are also those that are `:stubborn`: they have to be killed."
  def kinds, do: @kinds

  def start_link(census, registry, index, kind) do
    case kind do
      :without_link -> GenServer.start(__MODULE__, {census, registry, index, kind})
      _ -> GenServer.start_link(__MODULE__, {census, registry, index, kind})
    end
  end

  @impl true
  def init({census, registry, index, kind}) do
    number = Census.enter(census, index)

    case kind do
      kind when kind in [:plain, :without_link] ->
        {:ok, kind}

      kind when kind in [:trapping, :slow, :stubborn] ->
        Process.flag(:trap_exit, true)
        {:ok, kind}

      :unlinking ->
        [parent | _] = Process.get(:"$ancestors")
        Process.unlink(parent)
        {:ok, kind}

      :failing ->
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
             List.duplicate(:give_up, 1) ++
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

  defp go_on(storm, faults) do
    if :atomics.get(storm.over, 1) == 1 do
      faults
    else
      action = Enum.random(@actions)
      index = :rand.uniform(storm.ids)
      faults = act(storm, action, index) ++ faults
      :counters.add(storm.operations, 1, 1)
      go_on(storm, faults)
    end
  end

  defp act(storm, action, index) when action in [:lookup_or_start, :start] do
    seen = Census.seen(storm.census, index)
    args = args(storm, index)
    call = fn -> apply(GenRegistry, action, [storm.registry, index, args, :infinity]) end
    judge(storm, action, seen, Lifecycle.attempt(call))
  end

  defp act(storm, :give_up, index) do
    args = args(storm, index)
    Lifecycle.attempt(fn -> GenRegistry.start(storm.registry, index, args, 0) end)
    []
  end

  defp act(storm, :stop, index) do
    case Lifecycle.attempt(fn -> GenRegistry.stop(storm.registry, index) end) do
      :ok -> []
      {:error, :not_found} -> []
      {:exit, {_, {GenServer, :call, _}}} -> []
      other -> [{:unexpected, {:stop, other}}]
    end
  end

  defp act(storm, :stop_and_leave, index) do
    Lifecycle.attempt(fn -> GenRegistry.stop(storm.registry, index, 0) end)
    []
  end

  defp act(storm, :kill, index) do
    with {:ok, pid} <- lookup(storm, index), do: Process.exit(pid, :kill)
    []
  end

  # Asks as soon as it is known that the worker is dead. A process can be traced by one other only,
  # so each caller has ids of its own for that.
  defp act(storm, :kill_and_ask, index) do
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

  defp act(storm, :kill_starter, index) do
    with {:ok, pid} <- lookup(storm, index),
         {:parent, starter} when is_pid(starter) <- Process.info(pid, :parent),
         do: Process.exit(starter, :kill)

    []
  end

  defp act(storm, :lookup, index) do
    case lookup(storm, index) do
      {:ok, pid} when is_pid(pid) -> []
      {:error, :not_found} -> []
      {:error, %ArgumentError{}} -> []
      other -> [{:unexpected, {:lookup, other}}]
    end
  end

  defp act(storm, :count, _index) do
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
      {_, {:ok, pid}} -> dead(storm, seen, pid)
      {:start, {:error, {:already_started, pid}}} -> dead(storm, seen, pid)
      {_, {:error, {:shutdown, why}}} when why in [:failed, :raised] -> []
      {_, {:error, :ignore}} -> []
      {_, {:error, {:starter_died, _}}} -> []
      # The worker was killed before it was registered, or there is no registry.
      {_, {:error, reason}} when reason in [:killed, :noproc, :shutdown] -> []
      {_, {:error, %ArgumentError{}}} -> []
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
