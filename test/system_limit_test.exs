defmodule GenRegistry.SystemLimitTest do
  @moduledoc """
  Where the VM has no room for more processes, starts fail, and a registry keeps nothing of them.
  """

  use ExUnit.Case, async: true

  # A start takes three processes here: a starter, its sweeper, and the worker.
  test "a start that has no room is an error, until there is some" do
    args = ~w(+P 1024 -kernel logger_level emergency)
    vm = start_supervised!({OtherVM, {:vm, %{}, args}})

    {none, one, left, three} =
      OtherVM.eval(
        vm,
        quote do
          {:ok, registry} = GenRegistry.start_link(IdleWorker, name: R)
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

          [first, second, third | _] = take.(take, [])
          none = start.()
          give.(first)
          one = start.()

          # What it has begun with, it gives back.
          left = fn left, tries ->
            case Process.info(registry, :links) do
              {:links, [_, _ | _]} when tries > 0 -> :erlang.yield() && left.(left, tries - 1)
              {:links, [_ | starters]} -> length(starters)
            end
          end

          left = left.(left, 1_000_000)
          Enum.each([second, third], give)
          {none, one, left, start.()}
        end
      )

    assert none == {:error, :system_limit}
    assert one == {:error, :system_limit}
    assert left == 0
    assert {:ok, _} = three
  end
end
