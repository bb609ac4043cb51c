defmodule GenRegistry.Behaviour do
  @moduledoc """
  The functions of `GenRegistry` as a behaviour, for replacements and for test doubles.

      defmodule MyApp.FakeRegistry do
        @behaviour GenRegistry.Behaviour

        @impl true
        def lookup(_registry, _id), do: {:error, :not_found}
        # ...
      end

  `GenRegistry` says what each of them does. A double may leave out the optional ones, which came
  later than the others.
  """

  alias GenRegistry.Types

  @callback await(GenRegistry.server(), Types.id(), timeout) :: {:ok, pid}

  @callback count(GenRegistry.name()) :: non_neg_integer

  @callback info(GenRegistry.server()) :: GenRegistry.info()

  @callback lookup(GenRegistry.name(), Types.id()) :: {:ok, pid} | {:error, :not_found}

  @callback lookup_id(GenRegistry.name(), pid) :: {:ok, Types.id()} | {:error, :not_found}

  @callback lookup_many(GenRegistry.name(), [Types.id()]) :: [{Types.id(), pid}]

  @callback lookup_or_start(GenRegistry.server(), Types.id(), args :: list, timeout) ::
              {:ok, pid} | {:error, term}

  @callback reduce(GenRegistry.name(), acc, ({Types.id(), pid}, acc -> acc)) :: acc
            when acc: term

  @callback replace(GenRegistry.server(), Types.id(), args :: list, timeout) ::
              {:ok, pid} | {:error, term}

  @callback sample(GenRegistry.name()) :: {Types.id(), pid} | nil

  @callback start(GenRegistry.server(), Types.id(), args :: list, timeout) ::
              {:ok, pid} | {:error, {:already_started, pid}} | {:error, term}

  @callback stop(GenRegistry.server(), Types.id()) ::
              :ok | {:error, :not_found | :not_supervised}

  @callback stream(GenRegistry.name()) :: Enumerable.t()

  @callback to_list(GenRegistry.name()) :: [{Types.id(), pid}]

  # What came after 1.3: doubles from before go on without.
  @optional_callbacks await: 3, info: 1, lookup_id: 2, lookup_many: 2, replace: 4, stream: 1
end
