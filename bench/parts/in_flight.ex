defmodule Bench.Part.InFlight do
  @moduledoc false
  # What an event costs the registry's process while little, much and very much is in flight: starts that
  # wait for the only place.
  #
  # The time is that in which this process runs, as the VM traces it: what callers, starters and workers
  # do is not in it. What it takes with 10 in flight is measured in the same run, in turn.

  import Bench

  @control 10
  @events ["arrival", "giving up", "turn and answer", "worker's exit", "stop"]
  # How many of each event are measured at once. So many more are in flight meanwhile.
  @times 100
  # How many milliseconds callers wait before they give up: longer than all of them take to arrive.
  @patience 300

  def run do
    Process.flag(:trap_exit, true)
    sizes = [@control, 1_000, size(200_000, 20_000)]
    registries = for size <- sizes, do: {size, start_registry(size)}

    measured =
      for round <- 0..(2 * rounds()),
          {size, name} <- in_turn(registries, round + 1),
          do: {round, size, events(name)}

    # The first round is there to warm up.
    samples = fn size, event ->
      for {round, ^size, times} <- measured, round > 0, do: times[event] / 1_000 / @times
    end

    for event <- @events, size <- sizes do
      keep([in_flight: size, of: event], "µs", GenRegistry, samples.(size, event))

      if size != @control do
        others = samples.(@control, event)
        keep([in_flight: size, of: event], "µs", "with #{@control} in flight", others)
      end
    end

    for {_, name} <- registries, do: GenServer.stop(name, :shutdown, :infinity)
  end

  # Of a worker: it takes its place until the driver says so.
  def start_link(driver, name) do
    send(driver, {:turn, name, self()})
    receive(do: (:go -> :ok))
    {:ok, spawn_link(fn -> receive(do: (:never -> :ok)) end)}
  end

  defp start_registry(size) do
    name = Module.concat(__MODULE__, "With#{size}")
    options = [name: name, max_starting: 1, worker_shutdown: :brutal_kill]
    {:ok, server} = GenRegistry.start_link(__MODULE__, options)
    driver = self()

    # As the calls of callers on other nodes come: one process may wait for all of them.
    waiting =
      spawn_link(fn ->
        for n <- 0..size do
          send(server, {:"$gen_call", {self(), make_ref()}, {:start, n, [driver, name]}})
        end

        handled(server)
        send(driver, {self(), :sent})
        forget_all()
      end)

    receive do
      {^waiting, :sent} -> name
    end
  end

  # One after the other; in the end as much is in flight as before.
  defp events(name) do
    {callers, arrival} = server_time(name, fn -> callers(name, @patience) end)
    {_, giving_up} = server_time(name, fn -> Enum.each(callers, &down/1) end)
    callers(name, :infinity)
    {_, turns} = server_time(name, fn -> for _ <- 1..@times, do: take_turn(name) end)
    until_idle(name)
    {leave, stop} = name |> GenRegistry.to_list() |> Enum.split(div(@times, 2))

    {_, exits} =
      server_time(name, fn ->
        for {_, pid} <- leave do
          monitor = Process.monitor(pid)
          Process.exit(pid, :kill)
          down({pid, monitor})
        end
      end)

    {_, stops} =
      server_time(name, fn -> for {id, _} <- stop, do: :ok = GenRegistry.stop(name, id) end)

    Enum.zip(@events, [
      arrival,
      giving_up,
      turns,
      exits * @times / length(leave),
      stops * @times / length(stop)
    ])
    |> Map.new()
  end

  # As many as are measured, who ask for ids of their own and wait.
  defp callers(name, timeout) do
    driver = self()

    for _ <- 1..@times do
      spawn_monitor(fn ->
        try do
          GenRegistry.start(name, make_ref(), [driver, name], timeout)
        catch
          :exit, {:timeout, _} -> :ok
        end
      end)
    end
    |> tap(fn callers -> for {pid, _} <- callers, do: waits(pid) end)
  end

  # Until it waits for its answer.
  defp waits(pid) do
    case Process.info(pid, [:status, :current_function]) do
      [status: :waiting, current_function: {GenRegistry.Calls, _, _}] -> :ok
      nil -> :ok
      _ -> waits(pid)
    end
  end

  # All who had their turn are there: one has it now.
  defp until_idle(name) do
    if GenRegistry.count(name) < @times, do: until_idle(name)
  end

  defp down({pid, monitor}) do
    receive do
      {:DOWN, ^monitor, _, ^pid, _} -> :ok
    end
  end

  # The start that has its place now is over, and the next one has it.
  defp take_turn(name) do
    receive do
      {:turn, ^name, starter} -> send(starter, :go)
    end
  end

  # The nanoseconds for which a registry's process runs until it has handled all that is done here.
  defp server_time(name, fun) do
    server = Process.whereis(name)
    handled(server)
    :erlang.trace(server, true, [:running, :monotonic_timestamp])
    result = fun.()
    handled(server)
    :erlang.trace(server, false, [:running, :monotonic_timestamp])
    delivered = :erlang.trace_delivered(server)

    receive do
      {:trace_delivered, ^server, ^delivered} -> {result, running(server, nil, 0)}
    end
  end

  defp running(server, since, sum) do
    receive do
      {:trace_ts, ^server, :in, _, time} -> running(server, time, sum)
      {:trace_ts, ^server, :out, _, time} when since == nil -> running(server, time, sum)
      {:trace_ts, ^server, :out, _, time} -> running(server, nil, sum + time - since)
    after
      0 -> sum
    end
  end

  defp handled(server), do: {:ok, _} = :sys.log(server, :get, :infinity)

  defp forget_all do
    receive do
      _ -> forget_all()
    end
  end
end
