defmodule StormHandlers do
  @moduledoc """
  Handlers of telemetry and of the log for a storm: now and then they take milliseconds, raise, or use the
  registry, as a caller does. What its answers have wrong, they tell whoever has attached them.
  """

  @compile {:no_warn_undefined, :telemetry}

  @events for event <- [[:start, :start], [:start, :stop], [:start, :exception], [:exit]],
              do: [:gen_registry, :worker | event]

  # One of so many times.
  @slow 200
  @call 10
  @raise 500

  defstruct [:storm, :owner, :handling, :counts]

  @doc "Attaches them to a storm, for the calling process, which has loaded `TelemetryStandIn`."
  def attach(storm) do
    handlers = %__MODULE__{
      storm: storm,
      owner: self(),
      # The processes that run one.
      handling: :ets.new(:handling, [:public, write_concurrency: true]),
      counts: :counters.new(3, [])
    }

    :telemetry.attach_many(__MODULE__, @events, &__MODULE__.handle/4, handlers)
    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: handlers})
    handlers
  end

  @doc "How often they were slow, called the registry, and raised."
  def counts(handlers), do: for(n <- 1..3, do: :counters.get(handlers.counts, n))

  @doc "Returns the faults when a storm is over and none runs any more: from then on they do nothing."
  def detach(handlers) do
    Lifecycle.until(fn -> not Enum.any?(handling(handlers), &Process.alive?/1) end)
    :ok = :logger.remove_handler(__MODULE__)
    :telemetry.detach(__MODULE__)
    faults()
  end

  defp handling(handlers), do: for({pid} <- :ets.tab2list(handlers.handling), do: pid)

  defp faults do
    receive do
      {__MODULE__, faults} -> faults ++ faults()
    after
      0 -> []
    end
  end

  @doc false
  def handle(event, _measurements, %{id: index}, handlers) do
    # In the start of an id only those further on are asked for, so that no two wait for each other.
    ids =
      if event == hd(@events), do: (index + 1)..handlers.storm.ids//1, else: 1..handlers.storm.ids

    run(handlers, ids)

    if one_in?(@raise),
      do: :telemetry.attach_many(:raising, @events, &__MODULE__.fail/4, handlers)
  end

  # It is detached for that.
  @doc false
  def fail(_event, _measurements, _metadata, handlers) do
    :counters.add(handlers.counts, 3, 1)
    raise "a handler that fails"
  end

  # As `:logger` calls it.
  @doc false
  def log(%{msg: {:report, %{label: {GenRegistry, _}}}}, %{config: handlers}) do
    run(handlers, 1..handlers.storm.ids)
  end

  def log(_event, _config), do: :ok

  defp run(handlers, ids) do
    :ets.insert(handlers.handling, {self()})

    unless Storm.over?(handlers.storm) do
      if one_in?(@slow), do: take_time(handlers)
      if one_in?(@call) and Enum.any?(ids), do: call(handlers, Enum.random(ids))
    end

    :ets.delete(handlers.handling, self())
  end

  defp take_time(handlers) do
    :counters.add(handlers.counts, 1, 1)

    receive do
      :never -> :ok
    after
      :rand.uniform(5) -> :ok
    end
  end

  defp call(handlers, index) do
    :counters.add(handlers.counts, 2, 1)
    action = Enum.random([:lookup, :lookup_or_start, :start, :stop])
    faults = Storm.act(handlers.storm, action, index)
    if faults != [], do: send(handlers.owner, {__MODULE__, faults})
  end

  defp one_in?(times), do: :rand.uniform(times) == 1
end
