defmodule GenRegistry.NoHiddenStateTest do
  @moduledoc """
  What is known of each worker is in the table: no process grows with their number.
  """

  use ExUnit.Case

  import Lifecycle
  import StartSteps, only: [eventually: 1]

  @workers 100_000
  # So many workers a starter has at most, so there are some hundreds of them.
  @starters 2 * div(@workers, 64)
  # In words. Of the server, which knows its starters.
  @small 2_000
  @of_server 50 * @starters

  # Has the log's events of crashes sent to the test.
  def log(%{level: :error} = event, %{config: %{test: test}}), do: send(test, {:logged, event})
  def log(_event, _config), do: :ok

  defp start_workers(registry, numbers) do
    # One that costs little.
    start_link = fn -> {:ok, spawn_link(&hang/0)} end

    numbers
    |> Enum.chunk_every(1_000)
    |> Task.async_stream(
      fn ids ->
        for id <- ids, do: {:ok, _} = GenRegistry.start(registry, id, [:answer, start_link])
      end,
      max_concurrency: 4,
      timeout: :infinity
    )
    |> Stream.run()
  end

  # In words.
  defp heap(process) do
    {:garbage_collection_info, memory} = Process.info(process, :garbage_collection_info)
    memory[:heap_size] + memory[:old_heap_size]
  end

  # The server and its starters.
  defp own_processes(registry) do
    server = Process.whereis(registry)
    {:links, links} = Process.info(server, :links)
    {:parent, supervisor} = Process.info(server, :parent)
    [server | List.delete(links, supervisor)]
  end

  test "the server and the starters hold nothing of their workers", context do
    registry = registry(context)
    start_workers(registry, 1..@workers)
    assert GenRegistry.count(registry) == @workers
    assert [server, _starter | _] = processes = own_processes(registry)
    assert length(processes) < @starters

    for process <- processes do
      limit = if process == server, do: @of_server, else: @small
      assert :erts_debug.flat_size(:sys.get_state(process)) < limit
      {:dictionary, dictionary} = Process.info(process, :dictionary)
      assert :erts_debug.flat_size(dictionary) < limit
      {:monitors, monitors} = Process.info(process, :monitors)
      assert length(monitors) < @starters

      # When they have been idle for a while, no memory is kept, though nobody has collected garbage.
      eventually(fn -> heap(process) < 3 * limit end)
    end

    # Nor do all together.
    eventually(fn -> Enum.sum(Enum.map(processes, &heap/1)) < 10 * @workers end)

    # The server's crash, with all that is reported of it.
    config = %{level: :error, config: %{test: self()}}
    :ok = :logger.add_handler(__MODULE__, __MODULE__, config)
    on_exit(fn -> :logger.remove_handler(__MODULE__) end)

    ExUnit.CaptureLog.capture_log(fn ->
      monitor = Process.monitor(server)
      :sys.replace_state(server, &%{&1 | schedule: 0})
      ask(:start, registry, :new, [plain()])
      assert_receive {:DOWN, ^monitor, _, _, _}
    end)

    assert_receive {:logged, %{meta: %{pid: ^server}} = event}
    assert :erts_debug.flat_size(event) < 2 * @of_server

    for event <- logged(server) do
      assert :erts_debug.flat_size(event) < 2 * @of_server
    end
  end

  defp logged(pid) do
    receive do
      {:logged, %{meta: %{pid: ^pid}} = event} -> [event | logged(pid)]
    after
      0 -> []
    end
  end
end
