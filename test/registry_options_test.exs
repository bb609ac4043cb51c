defmodule GenRegistry.RegistryOptionsTest do
  @moduledoc """
  What a registry's start says of its options, and what it asks the VM for.
  """

  use ExUnit.Case

  import ExUnit.CaptureLog

  @moduletag :capture_log

  # What is logged as a registry starts with these options.
  defp logged(test, options) do
    capture_log(fn ->
      start_supervised!({GenRegistry, [worker_module: IdleWorker, name: test] ++ options})
      assert {:ok, _} = GenRegistry.start(test, :id)
      stop_supervised!(test)
    end)
  end

  test "one that is neither ours nor GenServer's is warned of, by its name", %{test: test} do
    for wrong <- [[max_childern: 5], [worker_shutdwon: 1], [restart: :permanent], [names: nil]] do
      [{key, _}] = wrong
      log = logged(test, wrong)
      assert log =~ "[warning]" or log =~ "[warn]"
      # Once, and it is clear whose option it is.
      assert [_, _] = String.split(log, ":#{key}")
      assert log =~ inspect(test)
    end
  end

  test "two of them are both named", %{test: test} do
    log = logged(test, max_childern: 5, max_startign: 1)
    assert log =~ ":max_childern"
    assert log =~ ":max_startign"
  end

  test "ours and GenServer's are not", %{test: test} do
    options = [
      max_children: 10,
      max_starting: 5,
      worker_shutdown: 100,
      timeout: 5_000,
      debug: [],
      spawn_opt: [fullsweep_after: 10],
      hibernate_after: 1_000
    ]

    assert logged(test, options) == ""
  end

  test "start_link/2 warns as well, and starts", %{test: test} do
    Process.flag(:trap_exit, true)

    log =
      capture_log(fn ->
        assert {:ok, pid} = GenRegistry.start_link(IdleWorker, name: test, max_childern: 5)
        assert {:ok, _} = GenRegistry.start(test, :id)
        GenServer.stop(pid, :shutdown)
      end)

    assert [_, _] = String.split(log, ":max_childern")
  end

  test "the VM does not search for :telemetry at each start of a registry", %{test: test} do
    refute :code.is_loaded(:telemetry)

    first = {GenRegistry, worker_module: IdleWorker, name: :"#{test} first"}
    start_supervised!(first, id: :first)

    code_server = Process.whereis(:code_server)
    :erlang.trace(code_server, true, [:receive])
    start_supervised!({GenRegistry, worker_module: IdleWorker, name: test}, id: :second)
    assert {:ok, _} = GenRegistry.start(test, :id)
    :erlang.trace(code_server, false, [:receive])
    delivered = :erlang.trace_delivered(code_server)
    assert_receive {:trace_delivered, ^code_server, ^delivered}
    refute Enum.any?(received(), &(inspect(&1, limit: :infinity) =~ ":telemetry"))
  end

  defp received do
    receive do
      {:trace, _, :receive, message} -> [message | received()]
    after
      0 -> []
    end
  end
end
