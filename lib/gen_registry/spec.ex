defmodule GenRegistry.Spec do
  @moduledoc """
  Child specs in the style from before Elixir 1.5, for code that still has it.

  New code puts `{GenRegistry, worker_module: MyWorker}` into its supervisor, see
  `GenRegistry.child_spec/1`.
  """

  @doc """
  A child spec, as a tuple, of a registry for `worker_module`.

  `opts` are those of `GenRegistry.start_link/2`. The child's id is the registry's name. Raises
  `ArgumentError` if `opts` is no keyword list.

      iex> GenRegistry.Spec.child_spec(ExampleWorker)
      {ExampleWorker, {GenRegistry, :start_link, [ExampleWorker, [name: ExampleWorker]]},
       :permanent, :infinity, :supervisor, [GenRegistry]}

      iex> spec = GenRegistry.Spec.child_spec(ExampleWorker, name: ExampleWorker.Read)
      iex> elem(spec, 0)
      ExampleWorker.Read
  """
  @spec child_spec(module, GenRegistry.options()) :: :supervisor.child_spec()
  def child_spec(worker_module, opts \\ []) do
    spec = GenRegistry.child_spec([{:worker_module, worker_module} | opts])
    {spec.id, spec.start, :permanent, spec.shutdown, spec.type, [GenRegistry]}
  end
end
