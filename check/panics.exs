# A panic wherever the VM calls the NIF: the VM lives, the caller is told, and the table still agrees
# with itself. A VM that is gone leaves the figure as it was.

defmodule Panics do
  alias GenRegistry.{Native, Table}

  @compile {:no_warn_undefined, Native}

  @registry Panics.Registry

  def run do
    {:ok, supervisor} =
      Supervisor.start_link([{GenRegistry, worker_module: IdleWorker, name: @registry}],
        strategy: :one_for_one
      )

    # It stays throughout.
    {:ok, _} = start(:one)

    Native.door_watch(true)
    Process.flag(:trap_exit, true)
    Logger.configure(level: :none)

    for {{name, provoke}, number} <- Enum.with_index(cases(), 1) do
      provoke.()
      assert_whole()
      Check.figure("VM alive: #{number} of #{length(cases())}")
      IO.puts("#{name}: the caller is told, and the table agrees with itself")
    end

    Supervisor.stop(supervisor)
  end

  defp cases do
    [
      {"a function of rustler's",
       fn ->
         :nif_panicked =
           planted("open", fn -> raises(fn -> Table.open(Panics.Other, :infinity) end) end)

         {:ok, _} = start()
       end},
      {"a read",
       fn ->
         lookup = fn -> GenRegistry.lookup(@registry, :one) end
         :nif_panicked = planted("lookup", fn -> raises(lookup) end)
       end},
      {"a step of a scan",
       fn ->
         to_list = fn -> GenRegistry.to_list(@registry) end
         :nif_panicked = planted("scan", fn -> raises(to_list) end)
       end},
      {"a write, with a lock held",
       fn ->
         id = opaque()
         {:ok, worker} = start(id)
         %{table: table} = :sys.get_state(@registry)
         register = fn -> Table.register(table, id, self(), self()) end
         :nif_panicked = planted("is", fn -> raises(register) end)
         {:id_taken, ^worker} = register.()
       end},
      {"a write, of a copy",
       fn ->
         id = opaque()
         {:error, {:starter_died, {:nif_panicked, _}}} = planted("keep", fn -> start(id) end)
         {:error, :not_found} = GenRegistry.lookup(@registry, id)
         {:ok, _} = start(id)
       end},
      {"a write on a dirty scheduler",
       fn ->
         id = {Enum.to_list(1..100_000), opaque()}
         {:error, {:starter_died, {:nif_panicked, _}}} = planted("keep", fn -> start(id) end)
         {:ok, _} = start(id)
       end},
      {"the death of a worker",
       fn ->
         id = opaque()
         {:ok, dead} = start(id)
         planted("down", fn -> kill(dead) end)
         # What failed is done again.
         {:error, :not_found} = GenRegistry.lookup(@registry, id)
         {:ok, ^id} = GenRegistry.lookup_id(@registry, dead)
         {:ok, alive} = GenRegistry.lookup_or_start(@registry, id)
         true = Process.alive?(alive)
       end},
      {"the freeing of an id",
       fn ->
         # Each round frees ids that earlier ones have left.
         planted("free", fn ->
           Enum.find(1..1_000, fn _ ->
             case start() do
               {:ok, worker} -> kill(worker)
               # It was this start that came to free them.
               {:error, {:starter_died, {:nif_panicked, _}}} -> :ok
             end

             not Native.door_planted()
           end)
         end)
       end},
      {"a destructor",
       fn ->
         planted("drop", fn ->
           apart(fn ->
             Process.register(self(), Panics.Other)
             Table.open(Panics.Other, :infinity)
           end)

           # It goes with what has been read until now.
           Enum.find(1..1_000, fn _ ->
             Native.door_collect()
             not Native.door_planted()
           end)
         end)
       end}
    ]
  end

  # What is kept as a copy of the VM's, whose code runs under a lock of the table.
  defp opaque, do: make_ref()

  defp start(id \\ opaque()), do: GenRegistry.start(@registry, id)

  # Sees the registry work as if nothing had been, on all shards of its table.
  defp assert_whole do
    ids =
      for n <- 1..500, id <- [n, "string #{n}", opaque()], do: {id, elem({:ok, _} = start(id), 1)}

    for {id, pid} <- ids, do: {:ok, ^pid} = GenRegistry.lookup(@registry, id)
    # Nobody else starts or ends workers.
    listed = GenRegistry.to_list(@registry)
    true = length(listed) == GenRegistry.count(@registry)
    true = length(listed) == length(Enum.uniq_by(listed, &elem(&1, 0)))
    for {id, pid} <- listed, do: {:ok, ^pid} = GenRegistry.lookup(@registry, id)
    [] = ids -- listed
    for {id, _} <- ids, do: :ok = GenRegistry.stop(@registry, id)
    true = GenRegistry.count(@registry) == length(listed) - length(ids)
    {_id, _pid} = GenRegistry.sample(@registry)
  end

  # Has the next one that comes to a point panic, which `fun` sees to; answers what it does.
  defp planted(point, fun) do
    Native.door_plant(point)
    answer = fun.()
    false = Native.door_planted()
    answer
  end

  defp raises(fun) do
    fun.()
    :nothing
  rescue
    error in ErlangError -> error.original
  end

  # Ends a process from outside, and waits until the VM has done all that this takes.
  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
  end

  # Runs a function in a process of its own, and answers when all it held is gone.
  defp apart(fun) do
    {pid, monitor} = spawn_monitor(fun)
    receive do: ({:DOWN, ^monitor, _, ^pid, reason} -> reason)
  end
end

Panics.run()
