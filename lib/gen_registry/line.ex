defmodule GenRegistry.Line do
  @moduledoc false
  # The requests that wait for one id, by their tickets: the order in which they came. Whatever is
  # done to one of them takes a time in the logarithm of their number. Many lines have one request
  # only, and are small.

  alias GenRegistry.{Schedule, Tickets}

  defstruct requests: Tickets.new(),
            # Whom each is from, to its ticket.
            froms: %{},
            # Callers to the tickets of their starts and registrations; keys of arguments to those of
            # starts.
            callers: %{},
            arguments: %{},
            # The tickets of stops and registrations, and of requests whose callers are in a worker's
            # init.
            barriers: Tickets.new(),
            nested: Tickets.new(),
            # Those of whom it has not been asked yet whether they are, by their tickets.
            unprobed: %{}

  @opaque t ::
            :none | {:one, ticket, Schedule.request(), probed? :: boolean} | %__MODULE__{}
  @type ticket :: Tickets.ticket()

  @doc "Nobody waits."
  @spec new :: t
  def new, do: :none

  @doc "Adds a request. `probed?` says whether it is known already whether its caller is nested."
  @spec add(t, ticket, Schedule.request(), probed? :: boolean) :: t
  def add(:none, ticket, request, probed?), do: {:one, ticket, request, probed?}

  def add(line, ticket, request, probed?) do
    line |> indexed() |> add_indexed(ticket, request, probed?)
  end

  defp indexed(:none), do: %__MODULE__{}

  defp indexed({:one, ticket, request, probed?}) do
    add_indexed(%__MODULE__{}, ticket, request, probed?)
  end

  defp indexed(line), do: line

  defp add_indexed(line, ticket, request, probed?) do
    {caller, _tag} = from = Schedule.from(request)

    line = %{
      line
      | requests: Tickets.put(line.requests, ticket, request),
        froms: Map.put(line.froms, from, ticket),
        unprobed: if(probed?, do: line.unprobed, else: Map.put(line.unprobed, ticket, from))
    }

    case request do
      {:stop, _} ->
        %{line | barriers: Tickets.put(line.barriers, ticket, nil)}

      {:register, _, _, _} ->
        callers = put(line.callers, caller, ticket)
        %{line | callers: callers, barriers: Tickets.put(line.barriers, ticket, nil)}

      {_kind, _, nil, _work} ->
        %{line | callers: put(line.callers, caller, ticket)}

      {_kind, _, key, _work} ->
        callers = put(line.callers, caller, ticket)
        %{line | callers: callers, arguments: put(line.arguments, key, ticket)}
    end
  end

  @doc "The first request, with its ticket."
  @spec first(t) :: {ticket, Schedule.request()} | nil
  def first(:none), do: nil
  def first({:one, ticket, request, _probed?}), do: {ticket, request}
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
  Takes the starts with these arguments that stand before the first stop or registration. None has
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
  def delete({:one, ticket, _request, _probed?}, ticket, _), do: :none

  def delete(line, ticket, request) do
    requests = Tickets.delete(line.requests, ticket)
    if Tickets.size(requests) == 0, do: :none, else: delete(line, requests, ticket, request)
  end

  defp delete(line, requests, ticket, request) do
    {caller, _tag} = from = Schedule.from(request)

    line = %{
      line
      | requests: requests,
        froms: Map.delete(line.froms, from),
        callers: drop(line.callers, caller, ticket),
        barriers: Tickets.delete(line.barriers, ticket),
        nested: Tickets.delete(line.nested, ticket),
        unprobed: Map.delete(line.unprobed, ticket)
    }

    case request do
      {kind, _, key, _} when kind != :register and key != nil ->
        %{line | arguments: drop(line.arguments, key, ticket)}

      _ ->
        line
    end
  end

  @doc "Finds a request by whom it is from."
  @spec find(t, GenServer.from()) :: {ticket, Schedule.request()} | nil
  def find(line, from) do
    with %{froms: %{^from => ticket}, requests: requests} <- indexed(line) do
      {ticket, Tickets.get(requests, ticket)}
    else
      _ -> nil
    end
  end

  @doc "Notes that the caller of the request that `find/2` found is in a worker's init."
  @spec nest(t, ticket) :: t
  def nest(line, ticket) do
    line = indexed(line)
    nested = line.nested |> Tickets.delete(ticket) |> Tickets.put(ticket, nil)
    %{line | nested: nested}
  end

  @doc "Whether anybody in the line is in a worker's init."
  @spec nested?(t) :: boolean
  def nested?(%__MODULE__{nested: nested}), do: Tickets.size(nested) > 0
  def nested?(_none_or_one), do: false

  @doc "Those of whom it has not been asked yet whether they are nested. Each is named once."
  @spec unprobed(t) :: {[GenServer.from()], t}
  def unprobed(:none), do: {[], :none}
  def unprobed({:one, _, _, true} = line), do: {[], line}

  def unprobed({:one, ticket, request, false}) do
    {[Schedule.from(request)], {:one, ticket, request, true}}
  end

  def unprobed(line), do: {Map.values(line.unprobed), %{line | unprobed: %{}}}

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
