defmodule Bench.Part.Lookups do
  @moduledoc false
  # `lookup`, found and not found: every shape of id, few and many entries, one and two readers.
  #
  # The workers are those of the GenRegistry, and the other rivals' tables have the same ids and
  # pids: what is compared is the tables. Elixir's `Registry` is filled by the workers themselves, in
  # their starts.
  #
  # `:global` and `:pg` are there with few entries only. Both are asked by id, but `:global` takes
  # minutes to register a million, and `:pg` does not keep an id for one process.

  import Bench
  alias Bench.{EtsRegistry, Ids, Loops, Nothing}

  @few 1_000

  def run do
    for entries <- [@few, large()], {shape, make} <- Ids.shapes() do
      {:ok, pg} = :pg.start_link(name(:pg))
      {:ok, registry} = Supervisor.start_link([elixir_registry()], strategy: :one_for_one)

      with_registries([GenRegistry, EtsRegistry], fn ->
        share(Enum.map(1..entries, make), 64, &start(&1, entries))
        settle()
        measure(entries, shape, make)
        # First, for to be told of the ends of a million workers takes it hours.
        Supervisor.stop(registry)
      end)

      GenServer.stop(pg)
    end
  end

  defp elixir_registry do
    {Registry, keys: :unique, name: name(Registry), partitions: System.schedulers_online()}
  end

  defp start(id, entries) do
    args = [0, {name(Registry), id}]
    {:ok, pid} = GenRegistry.lookup_or_start(name(GenRegistry), id, args, :infinity)
    true = :ets.insert(name(EtsRegistry), {id, pid})

    if entries == @few do
      :yes = :global.register_name({name(:global), id}, pid)
      :ok = :pg.join(name(:pg), id, pid)
    end
  end

  defp measure(entries, shape, make) do
    # As many calls as take the slowest a good part of a second.
    probed = min(entries, 200_000)
    times = if entries == @few, do: size(250, 100), else: 1
    rivals = [GenRegistry, EtsRegistry, Registry, Nothing]
    rivals = if entries == @few, do: rivals ++ [:global, :pg], else: rivals

    for {kind, numbers, loop} <- [
          {"hit", 1..entries, &Loops.hits/3},
          {"miss", (entries + 1)..(2 * entries), &Loops.misses/3}
        ],
        readers <- [1, 2] do
      probes = for _ <- 1..readers, do: Ids.probes(make, numbers, probed)
      what = [kind: kind, entries: entries, readers: readers, shape: shape]

      compare(what, "ns", rivals, fn rival ->
        ns =
          together(probes, &:erlang.binary_to_term/1, fn ids ->
            Loops.repeat(times, fn -> loop.(rival, name(rival), ids) end)
          end)

        ns / (probed * times)
      end)
    end
  end
end
