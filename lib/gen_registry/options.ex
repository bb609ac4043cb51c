defmodule GenRegistry.Options do
  @moduledoc false
  # What may be given to `GenRegistry`'s functions, and the errors for what may not.

  require Logger

  @defaults [max_children: :infinity, max_starting: 64, worker_shutdown: :default]

  # Of `GenServer.start_link/3`.
  @gen_options [:name, :debug, :hibernate_after, :spawn_opt, :timeout]

  @doc "Splits the options of a registry from those of `GenServer.start_link/3`, and validates ours."
  @spec split!(module, keyword) :: {own :: keyword, gen :: keyword}
  def split!(worker_module, opts) do
    keyword!(opts)
    {own, gen} = Keyword.split(opts, [:name | Keyword.keys(@defaults)])
    shutdown = Keyword.get(own, :worker_shutdown, :infinity)
    own = @defaults |> Keyword.put(:name, worker_module) |> Keyword.merge(own)
    module!(worker_module)
    validate!(own[:name], &name?/1, "name of a registry", "an atom")

    validate!(
      own[:max_children],
      &(&1 == :infinity or (is_integer(&1) and &1 >= 0)),
      ":max_children",
      "a number of workers or :infinity"
    )

    validate!(own[:max_starting], &positive?/1, ":max_starting", "a positive integer")

    validate!(
      shutdown,
      &(timeout?(&1) or &1 == :brutal_kill),
      ":worker_shutdown",
      "a number of milliseconds, :infinity or :brutal_kill"
    )

    warn_of_unknown(own[:name], Keyword.keys(gen) -- @gen_options)
    {own, gen}
  end

  # gen_registry 1.x ignored them, so they are no error.
  defp warn_of_unknown(_name, []), do: :ok

  defp warn_of_unknown(name, unknown) do
    Logger.warning(
      "GenRegistry #{inspect(name)} ignores unknown options: " <>
        Enum.map_join(Enum.uniq(unknown), ", ", &inspect/1)
    )
  end

  @doc "Options are a keyword list."
  @spec keyword!(term) :: :ok
  def keyword!(opts), do: validate!(opts, &Keyword.keyword?/1, "options", "a keyword list")

  @doc "A worker module is an atom."
  @spec module!(term) :: :ok
  def module!(module), do: validate!(module, &is_atom/1, "worker module", "a module")

  @doc "A registry to call is a name, a pid, or a name on another node."
  @spec server!(term) :: :ok
  def server!(name) when is_atom(name), do: :ok

  def server!(registry) do
    validate!(registry, &server?/1, "registry", "a name, a pid or {name, node}")
  end

  @doc "A timeout is what the VM can wait."
  @spec timeout!(term) :: :ok
  def timeout!(timeout) do
    validate!(timeout, &timeout?/1, "timeout", "a number of milliseconds or :infinity")
  end

  @doc "Arguments for `start_link` are a list."
  @spec args!(term) :: :ok
  def args!(args) do
    validate!(args, &proper_list?/1, "args", "a list of arguments for start_link")
  end

  @doc "The arguments and the timeout in the options of a call or a cast."
  @spec request!(term) :: {args :: list, timeout}
  def request!([]), do: {[], 5_000}

  def request!(opts) do
    keyword!(opts)
    opts = Keyword.validate!(opts, args: [], timeout: 5_000)
    args!(opts[:args])
    timeout!(opts[:timeout])
    {opts[:args], opts[:timeout]}
  end

  @doc "Whether a term is a list that has an end."
  @spec proper_list?(term) :: boolean
  def proper_list?(list) when length(list) >= 0, do: true
  def proper_list?(_), do: false

  @doc "Raises `ArgumentError` unless the value is valid."
  @spec validate!(term, (term -> boolean), what :: String.t(), wanted :: String.t()) :: :ok
  def validate!(value, valid?, what, wanted) do
    unless valid?.(value) do
      raise ArgumentError, "the #{what} must be #{wanted}, got: #{inspect(value)}"
    end

    :ok
  end

  defp name?(name), do: is_atom(name) and name not in [nil, true, false, :undefined]

  defp server?({name, node}), do: is_atom(name) and is_atom(node)
  defp server?(server), do: is_pid(server)

  defp positive?(number), do: is_integer(number) and number > 0

  defp timeout?(:infinity), do: true
  defp timeout?(timeout), do: is_integer(timeout) and timeout in 0..0xFFFFFFFF
end
