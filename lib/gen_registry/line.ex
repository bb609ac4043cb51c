defmodule GenRegistry.Line do
  @moduledoc false
  # The requests that wait for one id, by their tickets: the order in which they came. Whatever is
  # done to one of them takes a time in the logarithm of their number.

  alias GenRegistry.Schedule

  defstruct requests: :gb_trees.empty(),
            # Callers, and keys of arguments, to the tickets of their requests.
            callers: %{},
            arguments: %{},
            # The tickets of stops and registrations, and of requests whose callers are in a worker's init.
            barriers: :gb_sets.empty(),
            nested: :gb_sets.empty(),
            # Those of whom it has not been asked yet whether they are, by their tickets.
            unprobed: %{}

  @type t :: %__MODULE__{}
  @type ticket :: non_neg_integer

  @doc "Nobody waits."
  @spec new :: t
  def new, do: %__MODULE__{}

  @doc "Adds a request. `probed?` says whether it is known already whether its caller is nested."
  @spec add(t, ticket, Schedule.request(), probed? :: boolean) :: t
  def add(line, ticket, request, probed?) do
    {caller, _tag} = from = Schedule.from(request)

    line = %{
      line
      | requests: :gb_trees.insert(ticket, request, line.requests),
        callers: put(line.callers, caller, ticket),
        unprobed: if(probed?, do: line.unprobed, else: Map.put(line.unprobed, ticket, from))
    }

    case arguments(request) do
      :barrier -> %{line | barriers: :gb_sets.add(ticket, line.barriers)}
      nil -> line
      key -> %{line | arguments: put(line.arguments, key, ticket)}
    end
  end

  @doc "The first request, with its ticket."
  @spec first(t) :: {ticket, Schedule.request()} | nil
  def first(line) do
    if :gb_trees.is_empty(line.requests), do: nil, else: :gb_trees.smallest(line.requests)
  end

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
    case line.arguments do
      %{^key => tickets} ->
        tickets |> :gb_sets.iterator() |> take_before(first_barrier(line)) |> pop_all(line)

      %{} ->
        {[], line}
    end
  end

  # Atoms are greater than all numbers.
  defp first_barrier(line) do
    if :gb_sets.is_empty(line.barriers), do: :none, else: :gb_sets.smallest(line.barriers)
  end

  defp take_before(iterator, barrier) do
    case :gb_sets.next(iterator) do
      {ticket, rest} when ticket < barrier -> [ticket | take_before(rest, barrier)]
      _ -> []
    end
  end

  @doc "Takes a caller's requests, but for stops: those go on without it."
  @spec leave(t, pid) :: {[Schedule.request()], t}
  def leave(line, caller) do
    case line.callers do
      %{^caller => tickets} ->
        tickets
        |> :gb_sets.to_list()
        |> Enum.reject(&match?({:stop, _}, :gb_trees.get(&1, line.requests)))
        |> pop_all(line)

      %{} ->
        {[], line}
    end
  end

  defp pop_all(tickets, line) do
    Enum.map_reduce(tickets, line, fn ticket, line ->
      request = :gb_trees.get(ticket, line.requests)
      {request, delete(line, ticket, request)}
    end)
  end

  @doc "Finds a request by whom it is from."
  @spec find(t, GenServer.from()) :: {ticket, Schedule.request()} | nil
  def find(line, {caller, _tag} = from) do
    tickets = Map.get(line.callers, caller, :gb_sets.empty())

    Enum.find_value(:gb_sets.to_list(tickets), fn ticket ->
      request = :gb_trees.get(ticket, line.requests)
      if Schedule.from(request) == from, do: {ticket, request}
    end)
  end

  @doc "Takes the request that `find/2` found."
  @spec delete(t, ticket, Schedule.request()) :: t
  def delete(line, ticket, request) do
    {caller, _tag} = Schedule.from(request)

    line = %{
      line
      | requests: :gb_trees.delete(ticket, line.requests),
        callers: drop(line.callers, caller, ticket),
        nested: :gb_sets.del_element(ticket, line.nested),
        unprobed: Map.delete(line.unprobed, ticket)
    }

    case arguments(request) do
      :barrier -> %{line | barriers: :gb_sets.del_element(ticket, line.barriers)}
      nil -> line
      key -> %{line | arguments: drop(line.arguments, key, ticket)}
    end
  end

  @doc "Notes that the caller of the request that `find/2` found is in a worker's init."
  @spec nest(t, ticket) :: t
  def nest(line, ticket), do: %{line | nested: :gb_sets.add_element(ticket, line.nested)}

  @doc "Whether anybody in the line is in a worker's init."
  @spec nested?(t) :: boolean
  def nested?(line), do: not :gb_sets.is_empty(line.nested)

  @doc "Those of whom it has not been asked yet whether they are nested. Each is named once."
  @spec unprobed(t) :: {[GenServer.from()], t}
  def unprobed(line), do: {Map.values(line.unprobed), %{line | unprobed: %{}}}

  defp arguments({kind, _from, key, _work}) when kind in [:lookup_or_start, :start], do: key
  defp arguments(_stop_or_registration), do: :barrier

  defp put(index, key, ticket) do
    tickets = Map.get(index, key, :gb_sets.empty())
    Map.put(index, key, :gb_sets.add(ticket, tickets))
  end

  defp drop(index, key, ticket) do
    tickets = :gb_sets.delete(ticket, Map.fetch!(index, key))
    if :gb_sets.is_empty(tickets), do: Map.delete(index, key), else: Map.put(index, key, tickets)
  end
end
