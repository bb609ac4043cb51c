defmodule Bench.Part.Against do
  @moduledoc false
  # `lookup` of this commit beside that of another one, whose build `script/bench --against` made. A
  # VM has room for one of them, so each has a VM of its own: the two take turns, and now and then
  # are started anew, for which memory a VM got makes a difference that is not the library's. With more
  # entries than the processor has cache for, that is nearly all: at 200,000, a commit has taken 0.4 to
  # 2 times as long as itself.

  import Bench
  alias Bench.{Ids, Loops}

  @vms 7
  @sizes [1_000, 20_000]
  @burst 1_000

  def run do
    note("The other commit is #{System.fetch_env!("BENCH_AGAINST_COMMIT")}.")
    this = to_string(:code.lib_dir(:gen_registry))
    sides = [{GenRegistry, this}, {"the other commit", System.fetch_env!("BENCH_AGAINST")}]

    measured = for vm <- 1..@vms, entries <- @sizes, do: turn(in_turn(sides, vm), entries)

    measured
    |> Enum.concat()
    |> Enum.group_by(fn {what, side, _} -> {what, side} end, fn {_, _, ns} -> ns end)
    |> Enum.sort_by(fn {{what, _}, _} -> {what[:entries], what[:kind], what[:shape]} end)
    # What disturbs a round only ever adds to it: the least of all is the nearest to what is compared.
    |> Enum.each(fn {{what, side}, samples} -> keep(what, "ns", side, [Enum.min(samples)]) end)
  end

  # Each shape in turn, by both of two new VMs.
  defp turn(sides, entries) do
    vms = for {side, library} <- sides, do: {side, start(library)}

    measured =
      for {shape, _} <- Ids.shapes(),
          {side, kind, ns} <- rounds_of(vms, shape, entries),
          do: {[kind: kind, entries: entries, shape: shape], side, ns}

    for {_, vm} <- vms, do: :peer.stop(vm)
    measured
  end

  defp rounds_of(vms, shape, entries) do
    for {_, vm} <- vms, do: call(vm, :fill, [shape, entries])

    measured =
      for round <- 1..rounds(),
          {side, vm} <- in_turn(vms, round),
          {kind, ns} <- call(vm, :look_up, [shape, entries]),
          do: {side, kind, ns}

    for {_, vm} <- vms, do: call(vm, :empty, [])
    measured
  end

  defp start(library) do
    paths = for app <- [:elixir, :logger], do: to_string(:code.lib_dir(app))
    args = for path <- [library | paths], arg <- ["-pa", Path.join(path, "ebin")], do: ~c"#{arg}"
    {:ok, vm, _} = :peer.start_link(%{connection: :standard_io, args: args})
    {:ok, _} = :peer.call(vm, :application, :ensure_all_started, [:elixir], :infinity)
    bench = Path.expand("..", __DIR__)

    for file <-
          ~w(support/bench support/ids support/worker support/ets_registry support/loops) ++
            ["parts/against"] do
      :peer.call(vm, Code, :require_file, ["#{file}.ex", bench], :infinity)
    end

    vm
  end

  defp call(vm, function, args), do: :peer.call(vm, __MODULE__, function, args, :infinity)

  ## In those VMs

  @doc false
  def fill(shape, entries) do
    {:ok, registry} = GenRegistry.start_link(Bench.Worker, name: name(GenRegistry))
    # It outlives this call.
    Process.unlink(registry)
    Bench.fill(GenRegistry, Enum.map(1..entries, Ids.shape(shape)))
    settle()
  end

  @doc false
  def empty do
    GenServer.stop(name(GenRegistry), :shutdown, :infinity)
    settle()
  end

  # In short bursts, of which the middle one counts: so that it is seldom one that something else on
  # the machine has interrupted.
  @doc false
  def look_up(shape, entries) do
    for {kind, numbers, loop} <- [
          {"hit", 1..entries, &Loops.hits/3},
          {"miss", (entries + 1)..(2 * entries), &Loops.misses/3}
        ] do
      parent = self()

      together(
        [Ids.probes(Ids.shape(shape), numbers, min(entries, 20_000))],
        &(&1 |> :erlang.binary_to_term() |> Enum.chunk_every(@burst)),
        fn bursts ->
          times = div(size(400, 100), length(bursts))
          send(parent, {:bursts, for(_ <- 1..times, ids <- bursts, do: burst(loop, ids))})
        end
      )

      receive do
        {:bursts, bursts} -> {kind, median(bursts) / @burst}
      end
    end
  end

  defp burst(loop, ids) do
    begun = now()
    loop.(GenRegistry, name(GenRegistry), ids)
    now() - begun
  end
end
