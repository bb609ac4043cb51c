defmodule GenRegistry.Sealed do
  @moduledoc false
  # Measures ids that the NIF cannot look into: funs, bitstrings, integers of more than 2,040 bits,
  # native records, and whatever a later OTP brings.

  alias GenRegistry.Native

  @doc "The id with its size before it, as the NIF takes it in place of the id."
  @spec measured(term) :: nonempty_improper_list(reference, term)
  def measured(id), do: [Native.measured(words([id], 0)) | id]

  # Shared parts count each time, so there may be too many to count: the NIF stops at the limit.
  defp words([], words), do: words

  defp words(terms, words) do
    {words, sealed} = Native.measure(terms, words)
    {parts, words} = Enum.flat_map_reduce(sealed, words, &open/2)
    words(parts, words)
  end

  # What is in a sealed term, and how many words there are with what it takes by itself.
  defp open(fun, words) when is_function(fun) do
    {:env, terms} = :erlang.fun_info(fun, :env)
    {terms, words}
  end

  defp open(leaf, words) when is_integer(leaf) or is_bitstring(leaf),
    do: {[], words + div(:erlang.external_size(leaf), 8)}

  defp open(term, words) do
    case fields(term) do
      # In that format, the least that takes a word or two of memory is a byte.
      [] -> {[], words + :erlang.external_size(term)}
      fields -> {fields, words}
    end
  end

  # To get one field takes the longer the more there are.
  @most_fields 128

  # What is in a native record that is not too wide.
  defp fields(term) do
    # By `apply/3`: no OTP before 29 has the module.
    names = apply(:records, :get_field_names, [term])

    if length(names) <= @most_fields,
      do: for(name <- names, do: apply(:records, :get, [name, term])),
      else: []
  rescue
    _not_a_record -> []
  end
end
