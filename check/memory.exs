# What the VM holds is bounded by what runs. Random sequences of starts, stops, kills, lookups and
# streams over ids of every size and make, under a bound of workers: after each step, the memory of the
# whole VM is at most twice what the living ids weigh, and a constant, more than at the start. At the end
# of each sequence all workers end, and within a second the VM is back where it was. Nothing here helps,
# but that processes are made to collect their garbage.
#
#   SEED=1 SEQUENCES=20 STEPS=400 MIX_ENV=test mix run check/memory.exs

defmodule Memory do
  @registry Memory.Registry
  @mb 1_048_576

  # What is freed in steps, what processes hold until they collect their garbage, and the VM's own doings.
  @constant 48 * @mb
  # What may be left at the end: what the registry keeps for the next of its kind.
  @left 12 * @mb
  @patience 1_000
  # Bytes of living ids, beyond which none is started.
  @most 128 * @mb

  def run do
    seed = setting("SEED", :erlang.unique_integer([:positive]) + System.os_time(:millisecond))
    sequences = setting("SEQUENCES", 20)
    steps = setting("STEPS", 400)
    IO.puts("memory: seed #{seed}")
    :rand.seed(:exsss, seed)

    results =
      for n <- 1..sequences do
        result = sequence(Enum.at(scenes(), rem(n - 1, length(scenes()))), steps)
        IO.puts("#{n}: #{describe(result)}")
        result
      end

    failed = Enum.reject(results, & &1.fine?)
    most = results |> Enum.map(& &1.most) |> Enum.max()
    left = results |> Enum.map(& &1.left) |> Enum.max()

    IO.puts(
      "memory of #{sequences} sequences of #{steps} steps, seed #{seed}: at most #{mb(most)} beyond " <>
        "twice the living ids, #{mb(left)} left a second after the last one's end; failed: #{length(failed)}"
    )

    unless failed == [], do: System.halt(1)
  end

  defp setting(name, default), do: String.to_integer(System.get_env(name, "#{default}"))
  defp mb(bytes), do: "#{Float.round(bytes / @mb, 1)} MB"

  defp describe(result) do
    "#{result.scene}: #{result.started} started, which weighed #{mb(result.weighed)}; at most " <>
      "#{mb(result.most)} too much for twice the living#{result.at}; #{mb(result.left)} left" <>
      if(result.fine?, do: "", else: "  FAILED")
  end

  # What small workers live throughout, how many others may live, and what ids those have.
  defp scenes do
    [
      {"large ids one at a time, beside 6,000 small", 6_000, 1, [:large]},
      {"large ids, up to 20", 0, 20, [:large]},
      {"parts of larger binaries", 100, 10, [:part, :part_copied]},
      {"references that hold memory", 100, 10, [:atomics]},
      {"funs and bits", 100, 20, [:fun, :bits]},
      {"nested and shared", 1_000, 50, [:nested, :shared]},
      {"small ones that the VM copies", 0, 1_000, [:reference, :number]},
      {"everything", 2_000, 200,
       [:small, :large, :part, :part_copied] ++
         [:atomics, :fun, :bits] ++ [:nested, :shared, :reference, :number]}
    ]
  end

  # In a process of its own, whose heap goes with it.
  defp sequence(scene, steps) do
    seed = :rand.export_seed_s(:rand.jump())
    Task.await(Task.async(fn -> in_registry(scene, steps, seed) end), :infinity)
  end

  defp in_registry({name, residents, most, kinds}, steps, seed) do
    :rand.seed(seed)

    {:ok, supervisor} =
      Supervisor.start_link(
        [
          {GenRegistry,
           worker_module: IdleWorker, name: @registry, max_children: residents + most}
        ],
        strategy: :one_for_one
      )

    # Whatever is made once is made.
    for n <- 1..100, do: come_and_go({:first, n})
    settle()
    before = :erlang.memory(:total)
    for n <- 1..residents//1, do: {:ok, _} = GenRegistry.start(@registry, {:resident, n})
    started = settled(before, 0)
    # A small worker and its process.
    resident = max(started - before, 0)

    state = %{
      before: before + resident,
      most: most,
      kinds: kinds,
      living: %{},
      started: 0,
      weighed: 0,
      over: 0,
      at: ""
    }

    # Without the ids, which would live on here.
    state = state |> steps(steps) |> Map.delete(:living)

    for {_, pid} <- GenRegistry.to_list(@registry), do: kill(pid)
    0 = GenRegistry.count(@registry)
    left = settled(before + @left, 0) - before
    Supervisor.stop(supervisor)

    %{
      scene: name,
      started: state.started,
      weighed: state.weighed,
      most: state.over,
      at: state.at,
      left: left,
      fine?: state.over <= @constant and left <= @left
    }
  end

  defp come_and_go(id) do
    {:ok, _} = GenRegistry.start(@registry, id)
    :ok = GenRegistry.stop(@registry, id)
  end

  defp steps(state, 0), do: state
  # It is seen what is too much; more of it shows nothing.
  defp steps(%{over: over} = state, _) when over > @constant, do: state

  defp steps(state, n) do
    {action, state} = step(state)
    living = state.living |> Map.values() |> Enum.map(&elem(&1, 1)) |> Enum.sum()
    allowed = state.before + 2 * living
    over = settled(allowed + @constant, 0) - allowed
    state = if over > state.over, do: %{state | over: over, at: ", after #{action}"}, else: state
    steps(state, n - 1)
  end

  defp step(state) do
    case :rand.uniform(20) do
      n when n <= 9 ->
        {"a start", start(state)}

      n when n <= 13 ->
        {"a stop", ended(state, fn id, _pid -> :ok = GenRegistry.stop(@registry, id) end)}

      n when n <= 16 ->
        {"a kill", ended(state, fn _id, pid -> kill(pid) end)}

      17 ->
        {"lookups of what is not there", missed(state)}

      18 ->
        {"lookups", found(state)}

      19 ->
        {"a guest", guest(state)}

      20 ->
        {"a stream", stream(state)}
    end
  end

  defp start(state) do
    living = state.living |> Map.values() |> Enum.map(&elem(&1, 1)) |> Enum.sum()

    if map_size(state.living) >= state.most or living > @most do
      state |> ended(fn _id, pid -> kill(pid) end) |> start()
    else
      {id, weight} = id(Enum.random(state.kinds))
      {:ok, pid} = GenRegistry.start(@registry, id)

      %{
        state
        | living: Map.put(state.living, pid, {id, weight}),
          started: state.started + 1,
          weighed: state.weighed + weight
      }
    end
  end

  defp ended(%{living: living} = state, _fun) when map_size(living) == 0, do: state

  defp ended(state, fun) do
    {pid, {id, _}} = Enum.random(state.living)
    fun.(id, pid)
    # It is remembered for a while.
    GenRegistry.lookup_id(@registry, pid)
    %{state | living: Map.delete(state.living, pid)}
  end

  defp missed(state) do
    for kind <- state.kinds do
      {id, _} = id(kind)
      {:error, :not_found} = GenRegistry.lookup(@registry, {:missed, id})
      {:error, :not_found} = GenRegistry.stop(@registry, {:missed, id})
    end

    state
  end

  defp found(state) do
    for {pid, {id, _}} <- Enum.take_random(state.living, 10) do
      {:ok, ^pid} = GenRegistry.lookup(@registry, id)
      {:ok, ^id} = GenRegistry.lookup_id(@registry, pid)
    end

    state
  end

  defp guest(state) do
    {id, _} = id(Enum.random(state.kinds))
    {:ok, guest} = IdleWorker.start_link()
    :yes = GenRegistry.register_name({@registry, id}, guest)
    if :rand.uniform(2) == 1, do: :ok = GenRegistry.unregister_name({@registry, id})
    Process.unlink(guest)
    kill(guest)
    state
  end

  defp stream(state) do
    GenRegistry.stream(@registry) |> Enum.take(1)
    GenRegistry.sample(@registry)
    state
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
  end

  ## Ids, and what they weigh: what all of them is that is not shared with anything else

  defp id(kind) do
    id = make(kind)
    {id, weight(kind, id)}
  end

  defp weight(:atomics, id), do: @mb + weight(:small, id)
  # All that it is a part of.
  defp weight(:bits, id), do: @mb + weight(:small, id)
  defp weight(_, id), do: 8 * :erts_debug.flat_size(id) + binaries(id)

  defp binaries(binary) when is_bitstring(binary),
    do: if(byte_size(binary) > 64, do: byte_size(binary), else: 0)

  defp binaries(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> binaries()
  defp binaries([head | tail]), do: binaries(head) + binaries(tail)
  defp binaries(map) when is_map(map), do: map |> Map.to_list() |> binaries()

  defp binaries(fun) when is_function(fun),
    do: fun |> Function.info(:env) |> elem(1) |> binaries()

  defp binaries(_), do: 0

  defp make(:small), do: {:user, unique()}

  defp make(:large),
    do: <<unique()::64, 0::size(8 * (:rand.uniform(4) * @mb + :rand.uniform(1_000)))>>

  defp make(:part), do: {:part, unique(), part()}
  # With what the VM has to copy.
  defp make(:part_copied), do: {make_ref(), 2 ** 70 + unique(), part()}
  defp make(:atomics), do: {:job, :atomics.new(div(@mb, 8), [])}

  defp make(:fun),
    do:
      Terms.closure(
        {unique(), Enum.to_list(1..:rand.uniform(20_000)), :binary.copy("x", :rand.uniform(@mb))}
      )

  defp make(:bits) do
    whole = <<unique()::64, 0::size(8 * (@mb - 8))>>
    <<some::bitstring-size(1_001), _::bitstring>> = whole
    {:bits, some}
  end

  defp make(:nested),
    do:
      {unique(),
       Terms.nest(
         Enum.to_list(1..:rand.uniform(5_000)),
         Enum.random([:tuple, :list, :map, :key]),
         :rand.uniform(60)
       )}

  defp make(:shared),
    do: Enum.reduce(1..:rand.uniform(15), {unique(), 1.5}, fn _, term -> {term, term} end)

  defp make(:reference), do: make_ref()
  defp make(:number), do: 2 ** :rand.uniform(60_000) + unique()

  # Some bytes out of a request.
  defp part, do: :binary.part(<<unique()::64, 0::size(8 * @mb)>>, :rand.uniform(100), 100)

  defp unique, do: :erlang.unique_integer([:positive])

  ## The VM's memory

  # Once it is no more than allowed, or after a second. What processes have not collected yet is not the
  # registry's.
  defp settled(allowed, waited) do
    total = :erlang.memory(:total)

    if total <= allowed or waited >= @patience do
      total
    else
      for process <- Process.list(), do: :erlang.garbage_collect(process)
      receive after: (10 -> settled(allowed, waited + 10))
    end
  end

  # Until nothing goes down any more.
  defp settle(last \\ nil) do
    receive after: (300 -> :erlang.garbage_collect())
    total = :erlang.memory(:total)
    if last && last - total < @mb, do: :ok, else: settle(total)
  end
end

Memory.run()
