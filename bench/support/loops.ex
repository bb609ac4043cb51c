defmodule Bench.Nothing do
  @moduledoc false
  # What a loop costs whose call does nothing.

  def lookup(_name, id), do: {:ok, id}
end

defmodule Bench.Loops do
  @moduledoc false
  # Each rival is called as an application calls it: by its name, from a loop of its own, with the
  # answer matched.

  lookups = [
    {GenRegistry, quote(do: GenRegistry.lookup(var!(name), var!(id))), quote(do: {:ok, _}),
     quote(do: {:error, :not_found})},
    {Bench.EtsRegistry, quote(do: Bench.EtsRegistry.lookup(var!(name), var!(id))),
     quote(do: {:ok, _}), quote(do: {:error, :not_found})},
    {Registry, quote(do: Registry.lookup(var!(name), var!(id))), quote(do: [{_, _}]),
     quote(do: [])},
    {:global, quote(do: :global.whereis_name({var!(name), var!(id)})),
     quote(do: pid when is_pid(pid)), quote(do: :undefined)},
    {:pg, quote(do: :pg.get_local_members(var!(name), var!(id))), quote(do: [_]), quote(do: [])},
    {Bench.Nothing, quote(do: Bench.Nothing.lookup(var!(name), var!(id))), quote(do: {:ok, _}),
     quote(do: {:ok, _})}
  ]

  @doc "Looks up ids that are there."
  for {rival, call, found, _} <- lookups do
    def hits(unquote(rival), name, [id | ids]) do
      case unquote(call) do
        unquote(found) -> hits(unquote(rival), name, ids)
      end
    end
  end

  def hits(_rival, _name, []), do: :ok

  @doc "Looks up ids that are not there."
  for {rival, call, _, missing} <- lookups do
    def misses(unquote(rival), name, [id | ids]) do
      case unquote(call) do
        unquote(missing) -> misses(unquote(rival), name, ids)
      end
    end
  end

  def misses(_rival, _name, []), do: :ok

  @doc "Looks up one id again and again."
  for {rival, call, found, _} <- lookups do
    def hot(unquote(rival), name, id, times) when times > 0 do
      case unquote(call) do
        unquote(found) -> hot(unquote(rival), name, id, times - 1)
      end
    end
  end

  def hot(_rival, _name, _id, 0), do: :ok

  @starting [GenRegistry, Bench.EtsRegistry, Bench.DynamicRegistry, Bench.PartitionedRegistry]

  @doc "Asks for the workers of ids that have one."
  for rival <- @starting do
    def lookup_or_starts(unquote(rival), name, [id | ids]) do
      {:ok, _} = unquote(rival).lookup_or_start(name, id)
      lookup_or_starts(unquote(rival), name, ids)
    end
  end

  def lookup_or_starts(_rival, _name, []), do: :ok

  @doc "The same, and each worker is sent a message."
  for rival <- @starting do
    def lookup_or_start_and_casts(unquote(rival), name, [id | ids]) do
      {:ok, pid} = unquote(rival).lookup_or_start(name, id)
      GenServer.cast(pid, :hello)
      lookup_or_start_and_casts(unquote(rival), name, ids)
    end
  end

  def lookup_or_start_and_casts(_rival, _name, []), do: :ok

  @doc "Makes a loop over a list once and again."
  def repeat(0, _loop), do: :ok

  def repeat(times, loop) do
    loop.()
    repeat(times - 1, loop)
  end
end
