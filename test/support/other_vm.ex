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

  @doc """
  Two of the test's own that talk to each other without a daemon: all ports are the one that is given.
  The first one, `there@127.0.0.1`, can be connected to.
  """
  def start_two do
    port = free_port()
    cookie = "c#{System.unique_integer([:positive])}"
    common = ~w(-start_epmd false -erl_epmd_port #{port} -setcookie #{cookie})
    {start_node(:there, common), start_node(:here, common ++ ~w(-dist_listen false))}
  end

  defp free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end

  defp start_node(name, args) do
    options = %{name: name, host: ~c"127.0.0.1", longnames: true}
    ExUnit.Callbacks.start_supervised!({__MODULE__, {name, options, args}})
  end
end
