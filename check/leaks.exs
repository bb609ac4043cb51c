# What comes and goes leaves nothing behind: entries of tables, real workers, and whole registries.
#
#   CYCLES=100000 WORKERS=10000 ENTRIES=10000 check/run leaks
#
# What the NIF has from the VM's allocator is known to the byte. The VM's own memory, and what the
# system counts for it, vary: there, a leak is what is more than `@noise`.

defmodule Leaks do
  alias GenRegistry.{Native, Table}

  @compile {:no_warn_undefined, Native}

  # Entries that live at one time.
  @alive 1_000

  # Of the NIF: what is kept for the next of its kind. The list of what is to be freed keeps the room
  # that it once needed, and so do a registry's maps while it runs, for up to seven processes each.
  # How many blocks a running one has varies by thousands, with what it remembers.
  @blocks 100
  @bytes 524_288

  # Of the VM: carriers of its allocators that are in use in part, and what its own processes do.
  @noise 16 * 1_048_576

  def run do
    cycles = Check.setting("CYCLES", 10_000_000)
    workers = Check.setting("WORKERS", 1_000_000)
    size = Check.setting("ENTRIES", 1_000_000)

    # Whatever is made once is made.
    entries(div(cycles, 20))
    workers(div(workers, 20))

    half_and_whole = [entries(div(cycles, 2)), entries(div(cycles, 2))]
    IO.puts("entries, half-way and at the end: #{inspect(half_and_whole, pretty: true)}")
    {per_entry, entries_leak} = compare(half_and_whole, div(cycles, 2), @blocks)

    half_and_whole = workers(workers)
    IO.puts("workers, half-way and at the end: #{inspect(half_and_whole, pretty: true)}")
    {per_worker, workers_leak} = compare(half_and_whole, div(workers, 2), :any)

    objects = objects(10_000)
    IO.puts("objects, made and gone: #{inspect(objects)}")
    memory = memory(size)
    IO.puts("a large registry, before, full and gone: #{inspect(memory, pretty: true)}")

    held = held_by_readers(div(size, 10))
    IO.puts("bytes held of registries that ended beside readers: #{inspect(held)}")

    [before, full, gone] = memory
    shown = (full.system - before.system) / (full.bytes - before.bytes)

    Check.figure(
      "bytes per cycle: #{per_entry} of #{cycles} entries', #{per_worker} of #{workers} workers'; " <>
        "objects left: #{objects.left}; a registry of #{size} shows " <>
        "#{round(100 * shown)}% of its memory in :erlang.memory and gives back " <>
        "#{round(100 * (full.bytes - gone.bytes) / (full.bytes - before.bytes))}%; of one that ends beside readers #{Enum.max(held)} bytes stay"
    )

    Check.finish(
      entries_leak ++
        workers_leak ++
        for(
          {what, true} <- [
            {"#{objects.left} objects are left", objects.left != 0},
            {"a table's memory does not show", shown < 0.9},
            {"a registry that is gone holds memory", gone.bytes - before.bytes > @bytes},
            {"what ended beside readers stays", Enum.max(held) > @bytes},
            {"the VM keeps it", gone.system - before.system > @noise}
          ],
          do: what
        )
    )
  end

  # Bytes of the NIF, and of the VM where that is more than noise, for each cycle of the second half;
  # and what of it is a leak.
  defp compare([middle, last], cycles, blocks) do
    more = Map.merge(middle, last, fn _, middle, last -> last - middle end)
    vm = if more.total > @noise, do: more.total, else: 0
    bytes = if more.bytes > @bytes, do: more.bytes, else: 0

    bounds = %{
      blocks: blocks,
      bytes: @bytes,
      total: @noise,
      system: @noise,
      rss: 4 * @noise,
      atoms: 0,
      processes: 0,
      ports: 0
    }

    leaks =
      for {what, bound} <- bounds,
          bound != :any,
          more[what] > bound,
          do: "#{more[what]} more #{what}"

    {Float.round(max(vm, bytes) / cycles, 2), leaks}
  end

  # Entries that come and go in a registry of their own; what is left when that is gone.
  defp entries(cycles) do
    in_registry(fn _name, registry ->
      for n <- 1..cycles do
        true = Native.door_insert(registry, id(n), n)
        if n > @alive, do: Native.door_down(registry, n - @alive)
      end

      for n <- max(cycles - @alive, 0)..cycles, do: Native.door_down(registry, n)
    end)

    left()
  end

  # Of every shape.
  defp id(n) do
    case rem(n, 8) do
      0 -> make_ref()
      1 -> {:user, "a name of some length that is in no slot, #{n}"}
      2 -> Base.encode16(:erlang.md5(<<n::64>>))
      3 -> {:user, n}
      _ -> n
    end
  end

  # Real ones that come and go in one registry, what is left in the middle, and what at the end. Each
  # half are stopped, and half end by themselves.
  defp workers(count) do
    {:ok, supervisor} =
      Supervisor.start_link([{GenRegistry, worker_module: IdleWorker, name: Leaks.Registry}],
        strategy: :one_for_one
      )

    left =
      for half <- 0..1 do
        range = div(count * half, 2)..(div(count * (half + 1), 2) - 1)
        callers = 8

        0..(callers - 1)
        |> Enum.map(fn caller ->
          Task.async(fn ->
            for n <- range, rem(n, callers) == caller, do: come_and_go(id(n), div(n, callers))
          end)
        end)
        |> Task.await_many(:infinity)

        0 = GenRegistry.count(Leaks.Registry)
        left()
      end

    Supervisor.stop(supervisor)
    left
  end

  defp come_and_go(id, n) when rem(n, 2) == 0 do
    {:ok, _} = GenRegistry.start(Leaks.Registry, id)
    :ok = GenRegistry.stop(Leaks.Registry, id)
  end

  defp come_and_go(id, _n) do
    {:ok, worker} = GenRegistry.lookup_or_start(Leaks.Registry, id)
    monitor = Process.monitor(worker)
    Process.exit(worker, :kill)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
  end

  # How many registries and copies of terms were made while a registry came and went, and how many are
  # left of them.
  defp objects(entries) do
    # Those of earlier registries are not meant.
    left()
    Native.door_watch(true)

    in_registry(fn _name, registry ->
      for n <- 1..entries, do: true = Native.door_insert(registry, id(n), n)
      for n <- 1..entries, do: Native.door_down(registry, n)
    end)

    left()
    passes = for {point, passes, _, _, _} <- Native.door_points(), into: %{}, do: {point, passes}
    Native.door_watch(false)
    [opened, dropped, kept, freed] = for point <- ~w(open drop keep free), do: passes[point] || 0
    %{made: opened + kept, left: opened - dropped + kept - freed}
  end

  # Before a registry of so many entries, with it, and after.
  defp memory(entries) do
    before = left()
    test = self()

    in_registry(fn _name, registry ->
      # None that the VM keeps, whose memory is not the NIF's.
      for n <- 1..entries, do: true = Native.door_insert(registry, id(2 * n + 1), n)
      send(test, {:full, left()})
      for n <- 1..entries, do: Native.door_down(registry, n)
    end)

    full = receive do: ({:full, full} -> full)
    [before, full, left()]
  end

  # What is held, some times over, of a registry that ends while others read another one, once they have
  # stopped. Nothing else happens then that could free it.
  defp held_by_readers(entries) do
    test = self()
    large = :binary.copy("x", 15_000_000)

    {:ok, other} =
      Agent.start(fn ->
        Process.register(self(), Leaks.Other)
        table = Table.open(Leaks.Other, :infinity)
        true = Native.door_insert(table, large, 0)
        table
      end)

    held =
      for _ <- 1..10 do
        before = left()
        stop = :atomics.new(1, [])

        # They compare the large id with their own, which takes long.
        readers = for _ <- 1..2, do: Task.async(fn -> read_until(stop, "" <> large) end)

        in_registry(fn _name, registry ->
          for n <- 1..entries, do: true = Native.door_insert(registry, n, n)
          for n <- 1..entries, do: Native.door_down(registry, n)
          send(test, :ended)
        end)

        receive do: (:ended -> :ok)
        :atomics.put(stop, 1, 1)
        Task.await_many(readers)
        left().bytes - before.bytes
      end

    Agent.stop(other)
    held
  end

  defp read_until(stop, id) do
    {:ok, _} = Table.lookup(Leaks.Other, id)
    if :atomics.get(stop, 1) == 0, do: read_until(stop, id)
  end

  # In a process of its own, whose end is the registry's.
  defp in_registry(fun) do
    {owner, monitor} =
      spawn_monitor(fn ->
        registry = Table.open(Leaks.Table, :infinity)
        fun.(Leaks.Table, registry)
      end)

    receive do: ({:DOWN, ^monitor, _, ^owner, reason} -> :normal = reason)
  end

  # What there is when nobody does anything.
  defp left do
    for process <- Process.list(), do: :erlang.garbage_collect(process)
    settled(Native.door_allocated())
    {blocks, bytes} = Native.door_allocated()

    %{
      blocks: blocks,
      bytes: bytes,
      total: :erlang.memory(:total),
      system: :erlang.memory(:system),
      rss: rss(),
      atoms: :erlang.system_info(:atom_count),
      processes: :erlang.system_info(:process_count),
      ports: :erlang.system_info(:port_count)
    }
  end

  # What has been let go of is freed by itself, within a second; nothing here helps. What a process
  # held goes some time after it has ended.
  defp settled(allocated) do
    receive after: (1_500 -> :ok)
    now = Native.door_allocated()
    if now != allocated, do: settled(now)
  end

  defp rss do
    with {:ok, status} <- File.read("/proc/self/status"),
         [_, kilobytes] <- Regex.run(~r/VmRSS:\s+(\d+)/, status) do
      String.to_integer(kilobytes) * 1024
    else
      _ -> 0
    end
  end
end

Leaks.run()
