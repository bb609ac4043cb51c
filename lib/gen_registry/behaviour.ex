defmodule GenRegistry.Behaviour do
  @moduledoc """
  The functions of `GenRegistry` as a behaviour, for replacements and for test doubles.

      defmodule MyApp.FakeRegistry do
        @behaviour GenRegistry.Behaviour

        @impl true
        def lookup(_registry, _id), do: {:error, :not_found}
        # ...
      end

  The function of the same name in `GenRegistry` has all details of each. A double may leave out the
  optional ones, which came later than the others. [Testing](testing.md) has an example.
  """

  alias GenRegistry.Types

  @doc "Returns the process of an id, once there is one."
  @callback await(GenRegistry.server(), Types.id(), timeout) :: {:ok, pid}

  @doc "Calls the process of an id, started if there is none, and returns its reply."
  @callback call(GenRegistry.server(), Types.id(), request :: term, [GenRegistry.request_option()]) ::
              reply :: term

  @doc "Casts to the process of an id, started if there is none."
  @callback cast(GenRegistry.server(), Types.id(), message :: term, [GenRegistry.request_option()]) ::
              :ok | {:error, term}

  @doc "Returns how many processes there are."
  @callback count(GenRegistry.name()) :: non_neg_integer

  @doc "Returns a snapshot of a registry."
  @callback info(GenRegistry.server()) :: GenRegistry.info()

  @doc "Returns the process of an id, if there is one."
  @callback lookup(GenRegistry.name(), Types.id()) :: {:ok, pid} | {:error, :not_found}

  @doc "Returns the id of a process."
  @callback lookup_id(GenRegistry.name(), pid) :: {:ok, Types.id()} | {:error, :not_found}

  @doc "Returns `{id, pid}` for those of the ids that have a process, in their order."
  @callback lookup_many(GenRegistry.name(), [Types.id()]) :: [{Types.id(), pid}]

  @doc "Returns the process of an id, started with these arguments if there is none."
  @callback lookup_or_start(GenRegistry.server(), Types.id(), args :: list, timeout) ::
              {:ok, pid} | {:error, term}

  @doc "Folds over all `{id, pid}`, in no particular order."
  @callback reduce(GenRegistry.name(), acc, ({Types.id(), pid}, acc -> acc)) :: acc
            when acc: term

  @doc "Ends the process of an id, if there is one, and starts another."
  @callback replace(GenRegistry.server(), Types.id(), args :: list, timeout) ::
              {:ok, pid} | {:error, term}

  @doc "Returns the names of the registries that run on this node."
  @callback registries() :: [GenRegistry.name()]

  @doc "Returns one `{id, pid}`, each as likely as the others, or `nil`."
  @callback sample(GenRegistry.name()) :: {Types.id(), pid} | nil

  @doc "Starts the process of an id, which must not have one."
  @callback start(GenRegistry.server(), Types.id(), args :: list, timeout) ::
              {:ok, pid} | {:error, {:already_started, pid}} | {:error, term}

  @doc "Stops the process of an id, and returns once it is gone."
  @callback stop(GenRegistry.server(), Types.id()) ::
              :ok | {:error, :not_found | :not_supervised}

  @doc "As `c:stop/2`, with a timeout in milliseconds."
  @callback stop(GenRegistry.server(), Types.id(), timeout) ::
              :ok
              | {:error,
                 :not_found
                 | :not_supervised
                 | {:deadlock, [{GenRegistry.name(), Types.id()}]}}

  @doc "Returns all `{id, pid}` as a stream."
  @callback stream(GenRegistry.name()) :: Enumerable.t()

  @doc "Returns all `{id, pid}` as a list."
  @callback to_list(GenRegistry.name()) :: [{Types.id(), pid}]

  # What came after 1.3: doubles from before go on without.
  @optional_callbacks await: 3,
                      call: 4,
                      cast: 4,
                      info: 1,
                      lookup_id: 2,
                      lookup_many: 2,
                      registries: 0,
                      replace: 4,
                      stop: 3,
                      stream: 1
end
