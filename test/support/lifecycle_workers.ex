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
  def handle_cast({:run, fun}, state) do
    fun.()
    {:noreply, state}
  end

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
      [status: :waiting, current_function: {module, _, _}]
      when module in [:gen, :proc_lib, GenRegistry.Calls, GenRegistry.Request] ->
        :ok

      nil ->
        :ok

      _ ->
        await_call(pid)
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
  def held(where, result \\ {:ok, nil}, test \\ self()) do
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

  @doc "The arguments of a start in whose init this is done."
  def in_init(fun) do
    init = fn ->
      fun.()
      {:ok, nil}
    end

    [init]
  end

  @doc "The arguments of a start in whose `start_link` this is done."
  def in_start_link(fun) do
    start_link = fn ->
      fun.()
      LifecycleWorker.start_link(plain())
    end

    [:answer, start_link]
  end

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

  @doc "The sweeper that looks after a starter, which it watches."
  def sweeper(starter) do
    until(fn -> sweepers(starter) != [] end)
    [sweeper] = sweepers(starter)
    sweeper
  end

  defp sweepers(starter) do
    {:monitored_by, watchers} = Process.info(starter, :monitored_by)
    for pid <- watchers, is_pid(pid), StartSteps.module_of(pid) == GenRegistry.Sweeper, do: pid
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

        receive do
          {:EXIT, _, _} -> :ok
        end
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

  @doc "Kills a registry, and returns the process of the next one of its name, once that serves."
  def kill_registry(name) do
    last = Process.whereis(name)
    kill(last)
    restarted(name, last)
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
