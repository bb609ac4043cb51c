defmodule StartSteps do
  @moduledoc """
  Steps of the tests of what a start leaves behind, of handlers, and of what much in flight costs.
  """

  import ExUnit.Assertions

  # What never comes because of a fault is missed after this long.
  @patience 60_000
  @again_after 20

  @doc """
  What a function returns, once that is neither `nil` nor `false`: for what the library does of its own
  after a while.
  """
  def eventually(fun), do: eventually(fun, System.monotonic_time(:millisecond) + @patience)

  defp eventually(fun, deadline) do
    case fun.() do
      result when result in [nil, false] ->
        assert System.monotonic_time(:millisecond) < deadline, "it never came true"
        timer = Process.send_after(self(), {__MODULE__, make_ref()}, @again_after)

        receive do
          {__MODULE__, ref} when is_reference(ref) -> Process.cancel_timer(timer)
        end

        eventually(fun, deadline)

      result ->
        result
    end
  end

  @doc "The module that a process runs, as it says itself, or `nil` of a dead one."
  def module_of(pid) do
    with [dictionary: dictionary, initial_call: {module, _, _}] <-
           Process.info(pid, [:dictionary, :initial_call]) do
      case List.keyfind(dictionary, :"$initial_call", 0) do
        {_, {module, _, _}} -> module
        _ -> module
      end
    end
  end

  @doc "All processes of the VM that run a module."
  def processes_of(module), do: for(pid <- Process.list(), module_of(pid) == module, do: pid)

  @doc "The processes of all registries of the VM: their servers and what stands beside these."
  def own_processes do
    for pid <- Process.list(), own?(module_of(pid)), do: pid
  end

  defp own?(module), do: match?(["GenRegistry", _], module && safe_split(module))

  defp safe_split(module) do
    case Atom.to_string(module) do
      "Elixir." <> _ -> Module.split(module)
      erlang -> [erlang]
    end
  end

  @doc "How many words the state of a process and its dictionary have, and how many others it watches."
  def size(pid) do
    [dictionary: dictionary, monitors: monitors] = Process.info(pid, [:dictionary, :monitors])
    behaviour? = List.keymember?(dictionary, :"$initial_call", 0)
    state = if behaviour?, do: :sys.get_state(pid, :infinity)
    :erts_debug.flat_size({state, dictionary}) + length(monitors)
  end

  @doc "What a `start_link` sees of the process that it runs in, and might have changed."
  def snapshot do
    items = [:group_leader, :priority, :trap_exit, :monitors, :error_handler]
    {:messages, messages} = Process.info(self(), :messages)
    {:garbage_collection, collection} = Process.info(self(), :garbage_collection)

    %{
      dictionary: Enum.sort(Process.get()),
      metadata: :logger.get_process_metadata(),
      process: Process.info(self(), items),
      # News of a worker's end may come at any time.
      messages: Enum.reject(messages, &match?({:EXIT, _, _}, &1)),
      name: Process.info(self(), :registered_name),
      heap: Keyword.take(collection, ~w(max_heap_size min_heap_size min_bin_vheap_size)a),
      sensitive: Process.flag(:sensitive, false)
    }
  end

  @doc """
  A handler of telemetry, whose configuration is `{test, ids}`: for these ids it waits as
  `Lifecycle.wait/2` does, at `{:handler, event, id}`.
  """
  def hold_event(event, _measurements, %{id: id}, {test, ids}) do
    if id in ids, do: Lifecycle.wait(test, {:handler, List.last(event), id})
  end

  @doc "A handler that calls the function that it is configured with, for the id `:first`."
  def call_function(event, _measurements, %{id: :first}, fun), do: fun.(List.last(event))
  def call_function(_event, _measurements, _metadata, _fun), do: :ok

  @doc "Has a function called in each process that logs a report of this registry, until the test ends."
  def on_report(registry, fun) do
    id = Module.concat(__MODULE__, registry)
    :ok = :logger.add_handler(id, __MODULE__, %{config: {registry, fun}})
    ExUnit.Callbacks.on_exit(fn -> :logger.remove_handler(id) end)
  end

  @doc "Has a registry ended, and returns when it has told of all that happened."
  def end_with_all_told(registry) do
    {:monitored_by, watchers} = Process.info(Process.whereis(registry), :monitored_by)
    events = for pid <- watchers, is_pid(pid), module_of(pid) == GenRegistry.Events, do: pid
    Lifecycle.end_registry(registry)
    Enum.each(events, &Lifecycle.down/1)
  end

  # As `:logger` calls it.
  @doc false
  def log(%{msg: {:report, %{label: {GenRegistry, _}, report: report}}}, %{config: {name, fun}}) do
    if report[:supervisor] == {:local, name}, do: fun.()
  end

  def log(_event, _config), do: :ok

  @doc """
  Has requests of one process for a registry, one for each of these ids, as they come from other nodes.
  Returns that process, which takes the answers. They have all been handled.
  """
  def request_all(registry, ids, args) do
    server = Process.whereis(registry)
    test = self()

    asker =
      spawn_link(fn ->
        for id <- ids, do: send(server, {:"$gen_call", {self(), make_ref()}, {:start, id, args}})
        send(test, {:asked, self()})
        forget_all()
      end)

    assert_receive {:asked, ^asker}, @patience
    handled(asker, server)
    asker
  end

  # What the asker has sent is handled when what comes after it is.
  defp handled(asker, server) do
    send(asker, {:follow, self(), server})
    assert_receive {:followed, ^asker}, 2 * @patience
  end

  defp forget_all do
    receive do
      {:follow, test, server} ->
        {:ok, _} = :sys.log(server, :get, :infinity)
        send(test, {:followed, self()})
        forget_all()

      _ ->
        forget_all()
    end
  end

  @doc """
  How many reductions a process takes for one of `times` calls of a function, given their numbers: of
  the best of three rounds, for a garbage collection may be in any.

  A call of the function has to end with the process having handled what it was sent.
  """
  def reductions(pid, times, fun) do
    for round <- 1..3, reduce: :infinity do
      best ->
        before = spent(pid)
        for n <- 1..times, do: fun.({round, n})
        min(best, (spent(pid) - before) / times)
    end
  end

  defp spent(pid) do
    {:ok, _} = :sys.log(pid, :get, :infinity)
    {:reductions, reductions} = Process.info(pid, :reductions)
    reductions
  end
end
