defmodule TelemetryStandIn do
  @moduledoc """
  Loads a stand-in for the module `:telemetry`, and takes it away again.
  """

  @compile {:no_warn_undefined, :telemetry}

  @doc "Loads it. The calling process owns its handlers."
  def load do
    :ets.new(:telemetry, [:named_table, :public, :bag])
    Code.compile_file(Path.join(__DIR__, "telemetry_stand_in.exs"))
    :ok
  end

  @doc "Takes it away: from now on there is no such module."
  def unload do
    :code.purge(:telemetry)
    :code.delete(:telemetry)
    :code.purge(:telemetry)
    :ok
  end

  @doc "Has the calling process told of these events, as `{:event, name, measurements, metadata}`."
  def listen(events) do
    :telemetry.attach_many(make_ref(), events, &__MODULE__.tell/4, self())
  end

  @doc false
  def tell(event, measurements, metadata, listener) do
    send(listener, {:event, List.last(event), measurements, Map.put(metadata, :in, self())})
  end
end
