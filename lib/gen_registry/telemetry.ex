defmodule GenRegistry.Telemetry do
  @moduledoc """
  What registries tell through [`:telemetry`](https://hexdocs.pm/telemetry), event by event.

  Nothing need be switched on. A registry looks when it starts whether `:telemetry.execute/3` is
  there, and emits events if it is: your application has the `:telemetry` package as a dependency,
  or one of its own has. If it is not, nothing is emitted, and nothing is measured or kept for it.
  If it is, starters keep the ids of their workers, and watch them. Lookups, and calls that find their
  process, emit nothing in either case.

  ## Events

  All times are in native units, see `System.convert_time_unit/3`. The metadata of all events has

    * `:registry` - the registry's name
    * `:worker_module` - the module whose `start_link` starts its workers

  Those of workers also have `:id`, the worker's id. Those of a start's span, which are the next three, also have

    * `:caller` - the process that asked for the start
    * `:telemetry_span_context` - a reference, the same in both events of a span

  ### `[:gen_registry, :worker, :start, :start]`

  A worker's `start_link` is about to be called.

  Measurements: `:monotonic_time` and `:system_time`.

  ### `[:gen_registry, :worker, :start, :stop]`

  `start_link` has returned, and the worker is registered or its start has failed. Measurements:

    * `:duration` - what `start_link` and the registration took
    * `:queue_time` - from when the registry received the request until a starter was given it: the
      time that it waited for its turn
    * `:monotonic_time`

  Metadata: also

    * `:result` - `:ok`, or `{:error, reason}` as `GenRegistry.lookup_or_start/4` returns it
    * `:pid` - the worker, or `nil` if its start failed

  ### `[:gen_registry, :worker, :start, :exception]`

  In place of the last one: `start_link` raised, threw or exited, or the process that ran it was
  killed. (That the worker's `init` raised is not this: `start_link` returns an error then.)

  Measurements: as of `[:gen_registry, :worker, :start, :stop]`.

  Metadata: also `:kind` (`:error`, `:throw` or `:exit`), `:reason` and `:stacktrace`, as
  `Exception.format/3` takes them. For a starter that was killed they are `:exit`, its exit reason,
  and `[]`. A start that is cut off because the registry ends or is killed has neither of the two.

  ### `[:gen_registry, :worker, :exit]`

  A worker has ended, by itself, by `GenRegistry.stop/3` or otherwise. Measurements:

    * `:lifetime` - from its registration until its starter heard of its end
    * `:monotonic_time`

  Metadata: also `:pid` and `:reason`, its exit reason; `:noproc` if it was not linked to its starter
  and had ended before that could watch it.

  A worker's exit event comes after its `[:gen_registry, :worker, :start, :stop]`. There is none for
  workers that end with their registry or with their starter: `[:gen_registry, :registry, :stop]` has their number.

  ### `[:gen_registry, :worker, :refused]`

  A start was refused before it began. Measurements: `:count`, which is 1. Metadata: also `:reason`, which is
  `:max_children`.

  ### `[:gen_registry, :registry, :start]`

  A registry has started. Measurements: `:monotonic_time` and `:system_time`.

  ### `[:gen_registry, :registry, :stop]`

  A registry has ended, or was killed, and what it has left is gone. It is its last event. Measurements:
  `:monotonic_time`, and `:ended`, the number of workers whose start had the `:result` `:ok` and that have no event of
  their own end. So the number of those starts, less that of exits and of all that `:ended` has, is what runs.

  ## Where handlers run

  Those of the start's span run in the starter that starts the worker. What a handler of
  `[..., :start, :start]` puts into the process dictionary, such as the context of a trace, is there
  in `start_link` and in the handlers of `[..., :start, :stop]` and `[..., :start, :exception]`, and
  removed afterwards. The caller waits for handlers of `[..., :start, :start]` only. Those of
  `[..., :exit]`, and of the exception of a starter that was killed, run in the registry's event
  process.

  Handlers may take their time, and may call the registry: other starts, stops and the shutdown of the
  registry do not wait for them. (A handler of `[..., :start, :start]` must not ask for the id that is
  being started.) What handlers raise is caught.

  ## An example

      iex> defmodule MyApp.WorkerEvents do
      ...>   def attach(listener) do
      ...>     events = [
      ...>       [:gen_registry, :worker, :start, :stop],
      ...>       [:gen_registry, :worker, :exit]
      ...>     ]
      ...>
      ...>     :telemetry.attach_many(__MODULE__, events, &__MODULE__.handle/4, listener)
      ...>   end
      ...>
      ...>   def handle([:gen_registry, :worker, :start, :stop], measurements, metadata, listener) do
      ...>     took = System.convert_time_unit(measurements.duration, :native, :microsecond)
      ...>     send(listener, {:started, metadata.id, metadata.result, took})
      ...>   end
      ...>
      ...>   def handle([:gen_registry, :worker, :exit], _measurements, metadata, listener) do
      ...>     send(listener, {:exited, metadata.id, metadata.reason})
      ...>   end
      ...> end
      iex> MyApp.WorkerEvents.attach(self())
      :ok
      iex> {:ok, _} = GenRegistry.start(ExampleWorker, :an_id)
      iex> receive do {:started, :an_id, :ok, took} when is_integer(took) -> :told end
      :told
      iex> GenRegistry.stop(ExampleWorker, :an_id)
      iex> receive do {:exited, :an_id, reason} -> reason end
      :shutdown
      iex> :telemetry.detach(MyApp.WorkerEvents)
      :ok
  """

  @compile {:no_warn_undefined, {:telemetry, :execute, 3}}

  # Looking for a module that is not there takes a millisecond: for one whose application is not
  # there either, it is not done.
  @doc false
  @spec present? :: boolean
  def present? do
    function_exported?(:telemetry, :execute, 3) or
      (Application.spec(:telemetry) != nil and Code.ensure_loaded?(:telemetry) and
         function_exported?(:telemetry, :execute, 3))
  end

  @doc false
  @spec metadata(GenRegistry.name(), module) :: map
  def metadata(name, worker_module), do: %{registry: name, worker_module: worker_module}

  @doc false
  @spec execute([atom], map, map) :: :ok
  def execute(event, measurements, metadata) do
    :telemetry.execute([:gen_registry | event], measurements, metadata)
    :ok
  catch
    # A starter has workers, which end with it. What handlers raise is caught before it comes here;
    # but the module may be gone, or stopped.
    _kind, _reason -> :ok
  end
end
