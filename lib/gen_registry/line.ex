defmodule GenRegistry.Line do
  @moduledoc false
  # The requests that wait for one id, by their tickets: the order in which they came. Whatever is
  # done to one of them takes a time in the logarithm of their number. Many lines have one request
  # only, and are small.

  alias GenRegistry.{Schedule, Tickets}

  defstruct requests: Tickets.new(),
            # Callers to the tickets of their starts and registrations; keys of arguments to those of
            # starts.
            callers: %{},
            arguments: %{},
            # The tickets of stops, replacements and registrations, and of requests that are nested in a start.
            barriers: Tickets.new(),
            nested: Tickets.new()

  @opaque t ::
            :none | {:one, ticket, Schedule.request(), nested? :: boolean} | %__MODULE__{}
  @type ticket :: Tickets.ticket()

  @doc "Nobody waits."
  @spec new :: t
  def new, do: :none

  @doc "Adds a request. `nested?` says whether it is nested in a start."
  @spec add(t, ticket, Schedule.request(), nested? :: boolean) :: t
  def add(:none, ticket, request, nested?), do: {:one, ticket, request, nested?}

  def add(line, ticket, request, nested?) do
    line |> indexed() |> add_indexed(ticket, request, nested?)
  end

  defp indexed(:none), do: %__MODULE__{}

  defp indexed({:one, ticket, request, nested?}) do
    add_indexed(%__MODULE__{}, ticket, request, nested?)
  end

  defp indexed(line), do: line

  defp add_indexed(line, ticket, request, nested?) do
    line = %{
      line
      | requests: Tickets.put(line.requests, ticket, request),
        nested: if(nested?, do: Tickets.put(line.nested, ticket, nil), else: line.nested)
    }

    case request do
      {:stop, _} ->
        %{line | barriers: Tickets.put(line.barriers, ticket, nil)}

      # It goes on without its caller.
      {:replacement, _, _, _} ->
        line

      {kind, {caller, _tag}, _, _} when kind in [:register, :replace] ->
        callers = put(line.callers, caller, ticket)
        %{line | callers: callers, barriers: Tickets.put(line.barriers, ticket, nil)}

      {_kind, {caller, _tag}, nil, _work} ->
        %{line | callers: put(line.callers, caller, ticket)}

      {_kind, {caller, _tag}, key, _work} ->
        callers = put(line.callers, caller, ticket)
        %{line | callers: callers, arguments: put(line.arguments, key, ticket)}
    end
  end

  @doc "The first request, with its ticket."
  @spec first(t) :: {ticket, Schedule.request()} | nil
  def first(:none), do: nil
  def first({:one, ticket, request, _nested?}), do: {ticket, request}
  def first(line), do: Tickets.first(line.requests)

  @doc "Takes requests from the front for as long as `wanted?` says so."
  @spec pop_while(t, (Schedule.request() -> boolean)) :: {[Schedule.request()], t}
  def pop_while(line, wanted?), do: pop_while(line, wanted?, [])

  defp pop_while(line, wanted?, popped) do
    with {ticket, request} <- first(line), true <- wanted?.(request) do
      pop_while(delete(line, ticket, request), wanted?, [request | popped])
    else
      _ -> {Enum.reverse(popped), line}
    end
  end

  @doc """
  Takes the starts with these arguments that stand before the first stop, replacement or registration. None has
  the key `nil`.
  """
  @spec pop_equal(t, key :: term) :: {[Schedule.request()], t}
  def pop_equal(line, nil), do: {[], line}

  def pop_equal(line, key) do
    case indexed(line) do
      %{arguments: %{^key => tickets}, barriers: barriers} ->
        {barrier, _} = Tickets.first(barriers) || {:infinity, nil}
        tickets |> Tickets.below(barrier) |> pop_all(line)

      _ ->
        {[], line}
    end
  end

  @doc "Takes a caller's requests, but for stops: those go on without it."
  @spec leave(t, pid) :: {[Schedule.request()], t}
  def leave(line, caller) do
    case indexed(line) do
      %{callers: %{^caller => tickets}} -> tickets |> Tickets.below(:infinity) |> pop_all(line)
      _ -> {[], line}
    end
  end

  defp pop_all(tickets, line) do
    Enum.map_reduce(tickets, line, fn ticket, line ->
      request = Tickets.get(indexed(line).requests, ticket)
      {request, delete(line, ticket, request)}
    end)
  end

  @doc "Takes the request with this ticket, which is there."
  @spec delete(t, ticket, Schedule.request()) :: t
  def delete({:one, ticket, _request, _nested?}, ticket, _), do: :none

  def delete(line, ticket, request) do
    requests = Tickets.delete(line.requests, ticket)
    if Tickets.size(requests) == 0, do: :none, else: delete(line, requests, ticket, request)
  end

  defp delete(line, requests, ticket, request) do
    line = %{
      line
      | requests: requests,
        callers: drop(line.callers, caller(request), ticket),
        barriers: Tickets.delete(line.barriers, ticket),
        nested: Tickets.delete(line.nested, ticket)
    }

    case request do
      {kind, _, key, _} when kind in [:lookup_or_start, :start] and key != nil ->
        %{line | arguments: drop(line.arguments, key, ticket)}

      _ ->
        line
    end
  end

  @doc "Whether anything in the line is nested in a start."
  @spec nested?(t) :: boolean
  def nested?(:none), do: false
  def nested?({:one, _ticket, _request, nested?}), do: nested?
  def nested?(line), do: Tickets.size(line.nested) > 0

  @doc "Whether the first one in the line is."
  @spec first_nested?(t) :: boolean
  def first_nested?(%__MODULE__{} = line) do
    {ticket, _request} = Tickets.first(line.requests)
    match?({^ticket, _}, Tickets.first(line.nested))
  end

  def first_nested?(one), do: nested?(one)

  defp caller(request) do
    with {caller, _tag} <- Schedule.from(request), do: caller
  end

  defp put(index, key, ticket) do
    tickets = Map.get(index, key, Tickets.new())
    Map.put(index, key, Tickets.put(tickets, ticket, nil))
  end

  defp drop(index, key, ticket) do
    case index do
      %{^key => tickets} ->
        tickets = Tickets.delete(tickets, ticket)
        if Tickets.size(tickets) == 0, do: Map.delete(index, key), else: %{index | key => tickets}

      %{} ->
        index
    end
  end
end
