defmodule GenRegistry.LineTest do
  @moduledoc """
  `GenRegistry.Line` beside a plain list of tickets and requests: random operations come to the same.
  """

  use ExUnit.Case, async: true

  alias GenRegistry.Line

  @rounds 300
  @steps 100

  # A line, the list that it should be, and the tickets of those in it that are nested.
  defp new, do: %{line: Line.new(), list: [], nested: [], ticket: 0}

  test "random operations come to the same as on a list" do
    base = ExUnit.configuration()[:seed]

    seen =
      for n <- 1..@rounds, reduce: MapSet.new() do
        seen ->
          :rand.seed(:exsss, {base, n, 0})
          {_both, seen} = Enum.reduce(1..@steps, {new(), seen}, &step/2)
          seen
      end

    # Or else the test would mean little.
    for operation <- [:add, :pop_while, :pop_equal, :leave, :delete] do
      assert {operation, :something} in seen and
               (operation == :add or {operation, :nothing} in seen),
             "#{operation} had always the same to do"
    end
  end

  defp step(_n, {both, seen}) do
    operation = Enum.random([:add, :add, :add, :pop_while, :pop_equal, :leave, :delete])

    {found, both} = run(operation, both)
    seen = MapSet.put(seen, {operation, if(found in [nil, []], do: :nothing, else: :something)})
    {check(both), seen}
  end

  defp check(both) do
    assert Line.first(both.line) == List.first(both.list)
    assert Line.nested?(both.line) == (both.nested != [])

    first_nested? = both.list != [] and elem(hd(both.list), 0) in both.nested
    assert Line.first_nested?(both.line) == first_nested?
    assert to_list(both.line) == both.list
    # What is in no request any more is kept nowhere.
    if both.list == [], do: assert(both.line == Line.new())
    both
  end

  defp to_list(line) do
    case Line.first(line) do
      nil -> []
      {ticket, request} = first -> [first | to_list(Line.delete(line, ticket, request))]
    end
  end

  defp run(:add, both) do
    %{ticket: ticket, list: list, nested: nested} = both
    request = request(ticket)
    nested? = :rand.uniform(4) == 1
    line = Line.add(both.line, ticket, request, nested?)
    nested = if nested?, do: [ticket | nested], else: nested
    list = list ++ [{ticket, request}]
    {request, %{both | line: line, list: list, nested: nested, ticket: ticket + 1}}
  end

  defp run(:pop_while, both) do
    wanted? = Enum.random([&start?/1, &match?({:stop, _}, &1)])
    {popped, line} = Line.pop_while(both.line, wanted?)
    {expected, _} = Enum.split_while(both.list, fn {_, request} -> wanted?.(request) end)
    assert popped == requests(expected)
    {popped, without(%{both | line: line}, expected)}
  end

  defp run(:pop_equal, both) do
    key = Enum.random([nil, :key1, :key2])
    {popped, line} = Line.pop_equal(both.line, key)
    {starts, _} = Enum.split_while(both.list, fn {_, request} -> start?(request) end)

    expected = for {_, {_, _, own, _}} = entry <- starts, key != nil and own == key, do: entry

    assert popped == requests(expected)
    {popped, without(%{both | line: line}, expected)}
  end

  defp run(:leave, both) do
    caller = Enum.random(1..6)
    {gone, line} = Line.leave(both.line, caller)

    expected =
      for {_, request} = entry <- both.list,
          match?({^caller, _}, elem(request, 1)) and elem(request, 0) != :stop,
          do: entry

    assert gone == requests(expected)
    {gone, without(%{both | line: line}, expected)}
  end

  defp run(:delete, %{list: []} = both), do: {nil, both}

  defp run(:delete, both) do
    {ticket, request} = entry = Enum.random(both.list)
    {entry, without(%{both | line: Line.delete(both.line, ticket, request)}, [entry])}
  end

  defp request(ticket) do
    from = {Enum.random(1..6), ticket}

    case Enum.random([:start, :start, :start, :lookup_or_start, :stop, :register, :own_stop]) do
      :stop -> {:stop, from}
      :own_stop -> {:stop, nil}
      :register -> {:register, from, :guest, nil}
      start -> {start, from, Enum.random([nil, :key1, :key2]), :work}
    end
  end

  defp start?(request), do: elem(request, 0) in [:start, :lookup_or_start]
  defp requests(entries), do: for({_, request} <- entries, do: request)

  defp without(both, entries) do
    tickets = for {ticket, _} <- entries, do: ticket

    %{both | list: both.list -- entries, nested: both.nested -- tickets}
  end
end
