defmodule GenRegistry.IdleStormTest do
  @moduledoc """
  Calls to workers that end themselves all the time: no call is lost, and each is handled once.

  In the environment, `STORM_CALLS` says how many calls there are.
  """

  use ExUnit.Case

  import Lifecycle, only: [registry: 2]

  @moduletag timeout: :infinity

  @calls String.to_integer(System.get_env("STORM_CALLS", "100000"))
  @callers 8
  # So few that callers meet.
  @ids 12

  defmodule Worker do
    @moduledoc "Ends 0 to 1 ms after a reply, and at least 1 ms after its init."

    use GenServer

    def start_link(handled, started), do: GenServer.start_link(__MODULE__, {handled, started})

    @impl true
    def init({handled, started}) do
      :counters.add(started, 1, 1)
      {:ok, {handled, System.monotonic_time(:microsecond) + 1_000}, 1}
    end

    @impl true
    def handle_call({:request, n}, _from, {handled, earliest} = state) do
      :atomics.add(handled, n, 1)
      early = max(earliest - System.monotonic_time(:microsecond), 0)
      {:reply, n, state, max(ceil(early / 1_000), Enum.random(0..1))}
    end

    @impl true
    def handle_info(:timeout, state), do: {:stop, {:shutdown, :idle}, state}
  end

  test "no call exits, and each is handled once", context do
    registry = registry(context, worker_module: Worker)
    handled = :atomics.new(@calls, [])
    started = :counters.new(1, [])
    args = [handled, started]

    callers =
      for caller <- 1..@callers do
        Task.async(fn ->
          for n <- caller..@calls//@callers do
            id = Enum.random(1..@ids)
            assert GenRegistry.call(registry, id, {:request, n}, args: args) == n
          end

          Process.info(self(), [:messages, :monitors])
        end)
      end

    left = Task.await_many(callers, :infinity)
    workers = :counters.get(started, 1)
    counts = for n <- 1..@calls, do: :atomics.get(handled, n)

    IO.puts("""

    idle storm: #{@calls} calls by #{@callers} callers of #{@ids} ids, \
    #{workers} workers, handled once: #{Enum.count(counts, &(&1 == 1))}\
    """)

    assert Enum.frequencies(counts) == %{1 => @calls}
    # Neither late replies nor monitors.
    assert Enum.uniq(left) == [[messages: [], monitors: []]]
    # Or there was no storm.
    assert workers > @calls / 100
  end
end
