# As much of the package `:telemetry` as the tests need, under its name. It is no `.ex` file, for it
# must not be there in tests that have not asked for it: see `TelemetryStandIn`.
defmodule :telemetry do
  def attach_many(handler_id, events, function, config) do
    rows = for event <- events, do: {event, handler_id, function, config}
    :ets.insert(__MODULE__, rows)
    :ok
  end

  def detach(handler_id) do
    :ets.match_delete(__MODULE__, {:_, handler_id, :_, :_})
    :ok
  end

  # A handler that fails is detached, as by the real one.
  def execute(event, measurements, metadata) do
    for {_, handler_id, function, config} <- :ets.lookup(__MODULE__, event) do
      try do
        function.(event, measurements, metadata, config)
      catch
        _, _ -> detach(handler_id)
      end
    end

    :ok
  end
end
