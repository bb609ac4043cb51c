defmodule Bench.Part.Memory do
  @moduledoc false
  # What a worker costs beyond the process itself: the table, monitors, links, process dictionaries,
  # whoever has them. It is the memory of the VM (of which the table's is a part) with a registry of
  # many workers, less that with as many of the same processes and no registry.

  import Bench
  alias Bench.{EtsRegistry, Ids}

  def run do
    bare = bare()

    for {shape, make} <- Ids.shapes(), rival <- [GenRegistry, EtsRegistry] do
      # Atoms are never freed again, so they are there before.
      ids = Enum.map(1..large(), make)

      per_worker =
        with_registries([rival], fn ->
          before = memory()
          fill(rival, ids)
          memory() - before
        end) / large()

      keep([entries: large(), shape: shape], "bytes", rival, [per_worker - bare])
    end
  end

  # As they are started under a registry, but under none.
  defp bare do
    before = memory()
    pids = for _ <- 1..large(), do: start_alone()
    with_pids = memory()
    Enum.each(pids, &Process.exit(&1, :kill))
    settle()
    # The list of them is this process's own.
    (with_pids - before) / large() - 2 * :erlang.system_info(:wordsize)
  end

  defp start_alone do
    {:ok, pid} = :proc_lib.start(Bench.Worker, :init, [self(), 0, nil])
    pid
  end

  # Without garbage: of the registry's processes, and of this one. The workers' is the same.
  defp memory do
    settle()
    for pid <- Process.list(), large?(pid), do: :erlang.garbage_collect(pid)
    :erlang.garbage_collect()
    :erlang.memory(:total)
  end

  defp large?(pid) do
    match?({:total_heap_size, words} when words > 10_000, Process.info(pid, :total_heap_size))
  end
end
