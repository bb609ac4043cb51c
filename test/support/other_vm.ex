defmodule OtherVM do
  @moduledoc "VMs beside that of the tests, which have the library's code."

  def child_spec({id, options, args}) do
    %{id: id, start: {__MODULE__, :start_link, [options, args]}}
  end

  def start_link(options \\ %{}, args \\ []) do
    paths =
      for application <- [:elixir, :logger, :gen_registry],
          do: [~c"-pa", :filename.join(:code.lib_dir(application), ~c"ebin")]

    args = Enum.map(args, &String.to_charlist/1) ++ Enum.concat(paths)
    {:ok, vm, _} = :peer.start_link(Map.merge(options, %{connection: :standard_io, args: args}))
    {:ok, vm}
  end

  @doc "What quoted code answers there. Elixir is started, and what is linked to it ends with it."
  def eval(vm, quoted) do
    quoted =
      quote do
        {:ok, _} = Application.ensure_all_started(:elixir)
        unquote(quoted)
      end

    {value, _binding} = :peer.call(vm, Code, :eval_quoted, [quoted], :infinity)
    value
  end
end
