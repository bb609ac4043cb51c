defmodule GenRegistry.Held do
  @moduledoc false
  # A term that passes through the server: the arguments of a start, the reason of a failure. A small
  # one goes along as it is. What may be large, or refer to something large, is held by the NIF
  # instead: garbage in the server's heap would keep it for as long as that heap is not collected.

  alias GenRegistry.Native

  # Up to how many bytes terms are compared.
  @comparable 1024
  # From how many bytes on a copy takes long.
  @large 64 * 1024
  # How a fun begins in the external format. Other terms may have this byte too.
  @fun <<112>>
  # The largest of `:erlang.phash2/2`.
  @range 0x1_0000_0000
  # How many elements of a list or tuple are looked at.
  @few 8

  @typedoc "A term on its way."
  @type t :: {:plain, term} | {:held, reference, bytes :: non_neg_integer, key}

  @typedoc "Equal for terms that are `===`; `nil` for those that are too large to compare."
  @type key :: term

  @doc "Holds a term."
  @spec hold(term) :: t
  def hold(term) do
    if small?(term), do: {:plain, term}, else: hold_apart(term)
  end

  defp hold_apart(term) do
    bytes = :erlang.external_size(term)
    held = if bytes < @large, do: Native.hold(term), else: Native.hold_large(term)
    {:held, held, bytes, if(bytes <= @comparable, do: key_of(term))}
  end

  # The external format of a fun has the process that made it, which tells no funs apart.
  defp key_of(term) do
    external = :erlang.term_to_binary(term)

    if :binary.match(external, @fun) == :nomatch,
      do: {:md5, :erlang.md5(external)},
      else: {:phash2, :erlang.phash2(term, @range), :erlang.phash2([term], @range)}
  end

  @doc "Whether a term that came in a message looks like one that `hold/1` returned."
  @spec held?(term) :: boolean
  def held?({:plain, _term}), do: true
  def held?({:held, held, bytes, _key}), do: is_reference(held) and is_integer(bytes)
  def held?(_term), do: false

  @doc "The term. It can be taken once; after that, and for what was not held, this raises."
  @spec take(t) :: term
  def take({:plain, term}), do: term

  def take({:held, held, bytes, _key}) do
    {:ok, term} = if bytes < @large, do: Native.take(held), else: Native.take_large(held)
    term
  end

  @doc "Gives a term up that nobody takes."
  @spec let_go(t) :: :ok
  def let_go({:plain, _term}), do: :ok

  def let_go({:held, held, _bytes, _key}) do
    Native.let_go(held)
  rescue
    # A stranger's message, with another reference.
    ArgumentError -> :ok
  end

  @doc "What tells terms apart that are not `===`."
  @spec key(t) :: key
  def key({:plain, term}), do: {:plain, term}
  def key({:held, _held, _bytes, key}), do: key

  # Whether a term is a few words that refer to nothing else.
  defp small?(term) when is_list(term), do: small_list?(term, @few)

  defp small?(term) when is_tuple(term) and tuple_size(term) <= @few do
    term |> Tuple.to_list() |> flat_list?(@few)
  end

  defp small?(term), do: flat?(term)

  defp small_list?([], _left), do: true

  defp small_list?([first | rest], left) when left > 0 do
    small_element?(first) and small_list?(rest, left - 1)
  end

  defp small_list?(_, _left), do: false

  defp small_element?(term) when is_tuple(term) and tuple_size(term) <= @few do
    term |> Tuple.to_list() |> flat_list?(@few)
  end

  defp small_element?(term), do: flat?(term)

  defp flat_list?([], _left), do: true

  defp flat_list?([first | rest], left) when left > 0,
    do: flat?(first) and flat_list?(rest, left - 1)

  defp flat_list?(_, _left), do: false

  defp flat?(term) when is_atom(term) or is_pid(term) or is_float(term) or term == [], do: true
  defp flat?(term) when is_integer(term), do: term in -0x8000000000000000..0xFFFFFFFFFFFFFFFF

  # A part of a larger binary would keep all of that.
  defp flat?(term) when is_binary(term) and byte_size(term) <= 64 do
    :binary.referenced_byte_size(term) <= 64
  end

  defp flat?(_term), do: false
end
