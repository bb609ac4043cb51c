defmodule GenRegistry.ReadmeTest do
  @moduledoc """
  The README's examples run as they are written there, but for the names of their modules.
  """

  use ExUnit.Case, async: true

  defmodule Denylist do
    def start_link(recipient), do: Agent.start_link(fn -> recipient end)
    def allow?(denylist, sender), do: Agent.get(denylist, & &1) != sender
  end

  defmodule ExampleWorker do
    def start_link, do: Agent.start_link(fn -> 1 end)
    def start_link(:an, :argument), do: Agent.start_link(fn -> 2 end)
    def foobars(worker), do: Agent.get(worker, & &1)
  end

  # The example that contains these words.
  defp example(words) do
    [__DIR__, "../README.md"]
    |> Path.join()
    |> File.read!()
    |> then(&Regex.scan(~r/^```elixir\n(.*?)^```/ms, &1, capture: :all_but_first))
    |> List.flatten()
    |> Enum.find(&String.contains?(&1, words))
    |> String.replace(["Denylist", "ExampleWorker"], &"#{inspect(__MODULE__)}.#{&1}")
  end

  test "place_call" do
    start_supervised!({GenRegistry, worker_module: Denylist})
    Code.eval_string("defmodule #{inspect(__MODULE__)}.Calls do\n#{example("place_call")}\nend")
    calls = Module.concat(__MODULE__, Calls)
    assert calls.place_call(:sender, :recipient) == {:ok, :place_call}
    assert calls.place_call(:recipient, :recipient) == {:error, :reject_call}
    assert GenRegistry.count(Denylist) == 1
  end

  test "registries in a supervision tree, their functions, and the highest value" do
    {children, _} = Code.eval_string(example("children ="))
    for child <- children, do: start_supervised!(child)
    assert GenRegistry.count(ExampleWorker.Read) == 0

    Code.eval_string(example("lookup_or_start(ExampleWorker"))
    assert [another_id: pid] = GenRegistry.to_list(ExampleWorker)
    {:ok, _} = GenRegistry.lookup_or_start(ExampleWorker, :example_id)

    {_, values} = Code.eval_string(example("reduce(ExampleWorker"))
    assert %{max_id: :another_id, max_value: 2} = Map.new(values)
    assert ExampleWorker.foobars(pid) == 2
  end
end
