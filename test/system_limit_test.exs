defmodule GenRegistry.SystemLimitTest do
  @moduledoc """
  Where the VM has no room for more processes, starts fail, and a registry keeps nothing of them.
  """

  use ExUnit.Case, async: true

  # A start takes two processes here: a starter, and the worker.
  test "a start that has no room is an error, until there is some" do
    args = ~w(+P 1024 -kernel logger_level emergency)
    vm = start_supervised!({OtherVM, {:vm, %{}, args}})

    {none, left, one, two} =
      OtherVM.eval(
        vm,
        quote do
          {:ok, _} = GenRegistry.start_link(IdleWorker, name: R)
          start = fn -> GenRegistry.start(R, :id, [], :infinity) end

          take = fn take, taken ->
            try do
              spawn(fn -> receive(do: (:never -> :ok)) end)
            rescue
              SystemLimitError -> taken
            else
              pid -> take.(take, [pid | taken])
            end
          end

          give = fn pid ->
            monitor = Process.monitor(pid)
            Process.exit(pid, :kill)
            receive(do: ({:DOWN, ^monitor, _, _, _} -> :ok))
          end

          [first, second | _] = take.(take, [])
          none = start.()
          left = GenRegistry.info(R)
          give.(first)
          one = start.()
          give.(second)
          {none, left, one, start.()}
        end
      )

    assert none == {:error, :system_limit}
    assert %{starting: 0, queued: 0, starters: 0} = left
    # The worker's own.
    assert {:error, {%SystemLimitError{}, _stacktrace}} = one
    assert {:ok, _} = two
  end
end
