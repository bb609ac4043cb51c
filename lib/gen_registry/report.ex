defmodule GenRegistry.Report do
  @moduledoc false
  # Tells the log of workers that failed to start, as supervisors do of their children.

  require Logger

  # Of an id, and of the whole text, in characters.
  @id 200
  @text 8_000

  # Of a term that is shown: how deep, how many elements of each, and how many bytes of an integer.
  @depth 20
  @elements 60
  @digits 1_000

  @doc "Reports a failed start, unless it is none to speak of."
  @spec failed(GenRegistry.name(), module, GenRegistry.Types.id(), reason :: term) :: :ok
  def failed(_name, _module, _id, :ignore), do: :ok
  def failed(_name, _module, _id, {:already_started, _pid}), do: :ok

  def failed(name, module, id, reason) do
    reason = without_arguments(reason)

    # The keys are those of supervisors' reports. Arguments are left out, as they are there for
    # children that are started on demand: they may be anything.
    #
    # Not in supervisors' domain, `[:otp, :sasl]`, which Elixir's Logger drops unless it is told
    # otherwise; nor with their label, which it would translate in its own way, whole ids and all.
    # In the one that Logger's own macros give, it shows as what an application logs itself.
    Logger.error(
      %{
        label: {GenRegistry, :start_error},
        report: [
          supervisor: {:local, name},
          errorContext: :start_error,
          reason: reason,
          offender: [
            pid: :undefined,
            id: cut(inspect_some(id), @id),
            mfargs: {module, :start_link, :undefined},
            restart_type: :temporary,
            child_type: :worker
          ]
        ]
      },
      report_cb: &__MODULE__.format/1
    )
  end

  # What a start returned may look like an exception or a stack trace, and be none. A handler that it made
  # raise would be removed.
  defp format_reason(reason) do
    Exception.format_exit(reason)
  rescue
    _ -> inspect(reason, structs: false)
  end

  # A call that failed may be in the reason with its arguments: in an exit of `GenServer.call/3`, in the
  # first entry of a stack trace, in an exception. The reason may have these anywhere.
  defp without_arguments({module, function, [_ | _] = arguments} = tuple)
       when is_atom(module) and is_atom(function) do
    if proper?(arguments) and function_exported?(module, function, length(arguments)),
      do: {module, function, blanks(arguments)},
      else: without_arguments_inside(tuple)
  end

  defp without_arguments({module, function, arguments, location} = tuple)
       when is_atom(module) and is_atom(function) and is_list(arguments) and is_list(location) do
    if proper?(arguments),
      do: {module, function, length(arguments), location},
      else: without_arguments_inside(tuple)
  end

  # A fun, as the VM's own errors have it.
  defp without_arguments({fun, [_ | _] = arguments}) when is_function(fun),
    do: {fun, if(proper?(arguments), do: blanks(arguments), else: :_)}

  defp without_arguments({fun, arguments, location})
       when is_function(fun) and is_list(arguments) and is_list(location),
       do: {fun, if(proper?(arguments), do: length(arguments), else: :_), location}

  # The exit of a `send` to a name that nobody has.
  defp without_arguments({:badarg, {name, _message}}), do: {:badarg, {name, :_}}

  defp without_arguments(%error{args: [_ | _] = arguments} = exception)
       when error in [BadArityError, FunctionClauseError] do
    if proper?(arguments), do: %{exception | args: blanks(arguments)}, else: exception
  end

  defp without_arguments(tuple) when is_tuple(tuple), do: without_arguments_inside(tuple)

  defp without_arguments([first | rest]), do: [without_arguments(first) | without_arguments(rest)]

  defp without_arguments(%{} = map),
    do: :maps.map(fn _key, value -> without_arguments(value) end, map)

  defp without_arguments(term), do: term

  defp without_arguments_inside(tuple) do
    tuple |> Tuple.to_list() |> Enum.map(&without_arguments/1) |> List.to_tuple()
  end

  defp proper?(list), do: not List.improper?(list)

  defp blanks(arguments), do: Enum.map(arguments, fn _argument -> :_ end)

  # An id may be of any size, and a struct may come with code of its own.
  defp inspect_some(id) do
    inspect(without_digits(id, @depth),
      limit: 10,
      printable_limit: @id,
      structs: false,
      width: :infinity
    )
  end

  @doc false
  def format(%{report: report}) do
    [supervisor: {:local, name}, errorContext: _, reason: reason, offender: o] = report
    {module, :start_link, _} = o[:mfargs]

    text =
      "GenRegistry #{inspect(name)} failed to start the worker of id #{o[:id]}\n" <>
        "** (exit) #{format_reason(without_digits(reason, @depth))}\n" <>
        "Start Call: #{inspect(module)}.start_link"

    {~c"~ts", [cut(text, @text)]}
  end

  # All digits of an integer are made before any are cut, and that takes long: beyond so many bits its
  # size stands for it. What lies deeper, or behind so many elements, is not shown.
  defp without_digits(integer, _depth) when is_integer(integer) do
    if :erlang.external_size(integer) > @digits, do: :"a large integer", else: integer
  end

  defp without_digits([_ | _], 0), do: [:...]

  defp without_digits(list, depth) when is_list(list),
    do: first_elements(list, depth - 1, @elements)

  defp without_digits(tuple, 0) when is_tuple(tuple), do: {:...}

  defp without_digits(tuple, depth) when is_tuple(tuple) and tuple_size(tuple) <= @elements do
    tuple |> Tuple.to_list() |> Enum.map(&without_digits(&1, depth - 1)) |> List.to_tuple()
  end

  defp without_digits(tuple, depth) when is_tuple(tuple) do
    first = for n <- 0..(@elements - 1), do: without_digits(elem(tuple, n), depth - 1)
    List.to_tuple(first ++ [:...])
  end

  defp without_digits(%{} = map, 0), do: if(map == %{}, do: map, else: %{:... => :...})

  # As a list of pairs, for a struct cannot be gone through.
  defp without_digits(%{} = map, depth) do
    for {key, value} <- map |> :maps.to_list() |> Enum.take(@elements), into: %{} do
      {without_digits(key, depth - 1), without_digits(value, depth - 1)}
    end
  end

  defp without_digits(term, _depth), do: term

  defp first_elements([first | rest], depth, left) when left > 0 do
    [without_digits(first, depth) | first_elements(rest, depth, left - 1)]
  end

  defp first_elements([], _depth, _left), do: []
  defp first_elements(_rest, _depth, 0), do: [:...]
  defp first_elements(tail, depth, _left), do: without_digits(tail, depth)

  defp cut(text, length) do
    # Whole characters; a long text is not walked through.
    case String.split_at(text, length) do
      {text, ""} -> text
      {text, _} -> text <> "..."
    end
  end
end
