defmodule Bench do
  @moduledoc false
  # What all parts share: rivals measured in turn, processes that begin together, and the figures,
  # which `figures/0` has for the JSON.

  @doc "Whether this run is a short one: smaller tables, fewer rounds."
  def quick?, do: System.get_env("BENCH_QUICK") == "1"

  def rounds, do: if(quick?(), do: 3, else: 5)

  @doc "How many entries a large table has."
  def large, do: if(quick?(), do: 100_000, else: 1_000_000)

  @doc "One number in a full run, another in a short one."
  def size(full, quick), do: if(quick?(), do: quick, else: full)

  @rivals [
    {GenRegistry, "GenRegistry"},
    {Bench.EtsRegistry, "ETS baseline"},
    {Bench.DynamicRegistry, "Registry + DynamicSupervisor"},
    {Bench.PartitionedRegistry, "Registry + PartitionSupervisor"},
    {Registry, "Registry"},
    {:global, ":global"},
    {:pg, ":pg"},
    {Bench.Nothing, "empty loop"}
  ]

  def title(rival), do: Map.get(Map.new(@rivals), rival, rival)

  @doc """
  Measures the rivals in turn, some rounds long, and keeps a figure of each.

  `what` is a keyword list that tells this figure from others. `measure` answers a number, or a map
  of numbers by name, or by `{name, unit}`, each of which becomes a figure with that name as its
  `:of`.
  """
  def compare(what, unit, rivals, measure) do
    measured =
      for round <- 1..rounds(), rival <- in_turn(rivals, round) do
        {rival, measure.(rival)}
      end

    for rival <- rivals do
      samples = for {^rival, sample} <- measured, do: sample
      keep_samples(what, unit, rival, samples)
    end

    :ok
  end

  @doc "So that no rival is always the one that comes after a certain other."
  def in_turn(rivals, round) do
    {last, first} = Enum.split(rivals, rem(round - 1, length(rivals)))
    first ++ last
  end

  defp keep_samples(what, unit, rival, [%{} = first | _] = samples) do
    for {key, _} <- first do
      {name, unit} = with name when is_binary(name) <- key, do: {name, unit}
      keep(what ++ [of: name], unit, rival, Enum.map(samples, & &1[key]))
    end
  end

  defp keep_samples(what, unit, rival, samples), do: keep(what, unit, rival, samples)

  @doc "Keeps a figure that was measured otherwise, by its samples."
  def keep(what, unit, rival, samples) do
    figure =
      Map.merge(Map.new(what), %{
        rival: title(rival),
        unit: unit,
        median: median(samples),
        samples: samples
      })

    Process.put(:figures, [figure | Process.get(:figures, [])])
    IO.puts(["  ", describe(what), " | ", title(rival), ": ", number(figure.median), " ", unit])
  end

  @doc "Has the report say something beside the figures."
  def note(text), do: Process.put(:notes, [text | Process.get(:notes, [])])

  def notes, do: Enum.reverse(Process.get(:notes, []))
  def figures, do: Enum.reverse(Process.get(:figures, []))

  defp describe(what), do: Enum.map_join(what, ", ", fn {key, value} -> "#{key} #{value}" end)

  defp number(value) when is_integer(value), do: Integer.to_string(value)
  defp number(value), do: :erlang.float_to_binary(value / 1, decimals: 2)

  def median(samples), do: quantile(samples, 0.5)

  def quantile(samples, part) do
    samples |> Enum.sort() |> Enum.at(floor(part * (length(samples) - 1) + 0.5))
  end

  @doc """
  Runs `run.(prepare.(input))` for each input in a process of its own. All begin to run at once, when
  each has prepared. Answers the nanoseconds from the first's begin to the last's end.
  """
  def together(inputs, prepare \\ & &1, run) do
    parent = self()

    processes =
      for input <- inputs do
        spawn_link(fn ->
          prepared = prepare.(input)
          # Twice, for what survives two collections is not copied again in what is measured.
          for _ <- 1..2, do: :erlang.garbage_collect(self(), type: :minor)
          send(parent, {:ready, self()})

          receive do
            :go -> :ok
          end

          begun = now()
          run.(prepared)
          send(parent, {:done, self(), begun, now()})
        end)
      end

    for process <- processes do
      receive do
        {:ready, ^process} -> :ok
      end
    end

    Enum.each(processes, &send(&1, :go))

    times =
      for process <- processes do
        receive do
          {:done, ^process, begun, ended} -> {begun, ended}
        end
      end

    {begun, ended} = Enum.unzip(times)
    Enum.max(ended) - Enum.min(begun)
  end

  @doc "Nanoseconds since some moment."
  def now, do: :erlang.monotonic_time(:nanosecond)

  @doc "Has `callers` processes share these items, and answers the nanoseconds until all are done."
  def share(items, callers, fun) do
    each = ceil(Enum.count(items) / callers)
    items |> Enum.chunk_every(each) |> together(&Enum.each(&1, fun))
  end

  @doc "Runs `fun` with a fresh registry of each of these rivals, ended afterwards."
  def with_registries(rivals, fun) do
    # What is left of a registry that was ended is no matter of this process.
    Process.flag(:trap_exit, true)

    started =
      for rival <- rivals do
        {:ok, pid} = rival.start_link(Bench.Worker, name: name(rival))
        pid
      end

    try do
      fun.()
    after
      Enum.each(started, &GenServer.stop(&1, :shutdown, :infinity))
      flush()
      settle()
    end
  end

  @doc "Under which name the registry of a rival runs. It is asked within what is measured."
  for {rival, _} <- @rivals do
    def name(unquote(rival)), do: unquote(Module.concat(rival, Benched))
  end

  @doc "Starts a worker for each id."
  def fill(rival, ids, args \\ []) do
    share(ids, 64, fn id -> {:ok, _} = rival.lookup_or_start(name(rival), id, args, :infinity) end)
  end

  @doc "Waits until no process but this one has anything to do."
  def settle(quiet \\ 0)
  def settle(20), do: :ok

  def settle(quiet) do
    # A millisecond, so that what other threads hand over is seen.
    receive do
    after
      1 -> :ok
    end

    case :erlang.statistics(:total_active_tasks_all) do
      1 -> settle(quiet + 1)
      _ -> settle(0)
    end
  end

  def flush do
    receive do
      _ -> flush()
    after
      0 -> :ok
    end
  end
end
