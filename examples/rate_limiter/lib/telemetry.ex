defmodule :telemetry do
  @moduledoc """
  A stand-in for the `telemetry` package, so that the example runs with nothing else
  installed. In an application of yours, delete this file and depend on the package:

      {:telemetry, "~> 1.0"}

  It has the three functions that the example and `GenRegistry` use, under the same
  names, with the same arguments and answers. What it leaves out: it does not detach a
  handler that raises.
  """

  @type event :: [atom]
  @type handler :: (event, measurements :: map, metadata :: map, config :: term -> any)

  @doc "Has `handler` called for each of the events, in the process where it happens."
  @spec attach_many(id :: term, [event], handler, config :: term) ::
          :ok | {:error, :already_exists}
  def attach_many(id, events, handler, config) do
    if attached(id) == [] do
      for event <- events do
        # A persistent term is made for what is read all the time and hardly ever changes.
        key = {__MODULE__, event}
        handlers = :persistent_term.get(key, %{})
        :persistent_term.put(key, Map.put(handlers, id, {handler, config}))
      end

      :ok
    else
      {:error, :already_exists}
    end
  end

  @doc "Takes back what was attached under this id."
  @spec detach(id :: term) :: :ok | {:error, :not_found}
  def detach(id) do
    case attached(id) do
      [] ->
        {:error, :not_found}

      attached ->
        for {key, handlers} <- attached, do: :persistent_term.put(key, Map.delete(handlers, id))
        :ok
    end
  end

  @doc "Tells all handlers of an event that it has happened."
  @spec execute(event, measurements :: map, metadata :: map) :: :ok
  def execute(event, measurements, metadata) do
    for {_id, {handler, config}} <- :persistent_term.get({__MODULE__, event}, %{}) do
      handler.(event, measurements, metadata, config)
    end

    :ok
  end

  defp attached(id) do
    for {{__MODULE__, _event} = key, %{^id => _} = handlers} <- :persistent_term.get(),
        do: {key, handlers}
  end
end
