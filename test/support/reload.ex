defmodule Reload do
  @moduledoc """
  What is done to the NIF's module in a VM of its own, with a registry that runs meanwhile.
  """

  @native GenRegistry.Native

  @doc "A supervised registry `R` with a worker."
  def begin do
    # What the VM says of loads that fail, and of registries that are ended.
    :logger.set_primary_config(:level, :critical)
    options = [strategy: :one_for_one, max_restarts: 1_000_000]
    children = [{GenRegistry, worker_module: IdleWorker, name: R}]
    {:ok, supervisor} = Supervisor.start_link(children, options)
    {:ok, resident} = GenRegistry.start(R, :resident)
    %{server: Process.whereis(R), resident: resident, supervisor: supervisor}
  end

  def load do
    file = :code.where_is_file(~c"#{@native}.beam")
    :code.load_binary(@native, file, File.read!(file))
  end

  def delete, do: true = :code.delete(@native)

  @doc "Also of what has no other reference to what is purged than garbage."
  def purge do
    :code.purge(@native)
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
  end

  @doc "Checks that the registry is the one it was, and does all that it has to."
  def works!(%{server: server, resident: resident}) do
    ^server = Process.whereis(R)
    {:ok, ^resident} = GenRegistry.lookup(R, :resident)
    {:error, {:already_started, ^resident}} = GenRegistry.start(R, :resident)
    true = Process.alive?(resident)
    serves!()
  end

  @doc "Checks that a registry does all that it has to."
  def serves! do
    {:ok, pid} = GenRegistry.lookup_or_start(R, {:user, 1})
    {:ok, ^pid} = GenRegistry.lookup(R, {:user, 1})
    true = {{:user, 1}, pid} in GenRegistry.to_list(R)
    count = GenRegistry.count(R)
    end_process(pid)
    {:error, :not_found} = GenRegistry.lookup(R, {:user, 1})
    ^count = GenRegistry.count(R) + 1
    {:ok, _} = GenRegistry.start(R, {:user, 1})
    :ok = GenRegistry.stop(R, {:user, 1})
  end

  @doc "The registry's own processes: its server, its starters, and those that stand beside these."
  def processes(%{server: server}) do
    processes = StartSteps.own_processes()
    true = server in processes
    {processes, Enum.all?(processes, &Process.alive?/1)}
  end

  def end_process(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
  end

  @doc "Has the registry started anew, by its supervisor, as one whose start has failed would be."
  def restart(%{supervisor: supervisor}) do
    Supervisor.terminate_child(supervisor, R)
    {:ok, _} = Supervisor.restart_child(supervisor, R)
  end

  @doc """
  Returns when nothing of earlier registries is left. Their processes would load the module if it was not
  there.
  """
  def settled! do
    if GenRegistry.Native.earlier(:sys.get_state(R).table) != [], do: settled!()
  end

  @doc "What a call raises, or exits with."
  def failure(fun) do
    {:answered, fun.()}
  rescue
    error -> error.__struct__
  catch
    :exit, _ -> :exit
  end

  @doc """
  The application as another version of it, in a directory of its own, with an `.appup` that loads
  these modules, `{module, binary}`.
  """
  def release(dir, from, to, beams) do
    source = :code.lib_dir(:gen_registry)
    root = Path.join(dir, "gen_registry-#{to}")
    File.mkdir_p!(root)
    for part <- ["ebin", "priv"], do: File.cp_r!(Path.join(source, part), Path.join(root, part))
    for {module, beam} <- beams, do: File.write!(Path.join(root, "ebin/#{module}.beam"), beam)

    app = Path.join(root, "ebin/gen_registry.app")
    {:ok, [{:application, :gen_registry, keys}]} = :file.consult(app)
    write(app, {:application, :gen_registry, Keyword.put(keys, :vsn, ~c"#{to}")})
    steps = [{~c"#{from}", for({module, _} <- beams, do: {:load_module, module})}]
    write(Path.join(root, "ebin/gen_registry.appup"), {~c"#{to}", steps, steps})
    String.to_charlist(root)
  end

  defp write(file, term), do: File.write!(file, :io_lib.format("~p.~n", [term]))

  @doc "The library's modules but for the NIF's, each with something new in it. It loads them, too."
  def compile(files, new) do
    Code.put_compiler_option(:ignore_module_conflict, true)

    for file <- files,
        source = String.replace(File.read!(file), ~r/^defmodule .*\n/m, "\\0def #{new}, do: 1\n"),
        compiled <- Code.compile_string(source, file),
        do: compiled
  end
end
