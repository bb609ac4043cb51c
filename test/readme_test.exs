defmodule GenRegistry.ReadmeTest do
  @moduledoc """
  The examples of the README and the guides run as they are written there, but for the names of their
  modules.
  """

  use ExUnit.Case, async: true

  defmodule Denylist do
    def start_link(recipient), do: Agent.start_link(fn -> recipient end)
    def allow?(denylist, sender), do: Agent.get(denylist, & &1) != sender
  end

  defmodule ExampleWorker do
    use GenServer
    def start_link, do: GenServer.start_link(__MODULE__, 1)
    def start_link(:an, :argument), do: GenServer.start_link(__MODULE__, 2)
    def foobars(worker), do: GenServer.call(worker, :foobars)

    @impl true
    def init(value), do: {:ok, value}
    @impl true
    def handle_call(_request, _from, value), do: {:reply, value, value}
    @impl true
    def handle_cast(:message, value), do: {:noreply, value}
  end

  defmodule Session do
    def start_link(id), do: Agent.start_link(fn -> id end)
  end

  # The example that contains these words.
  defp example(page \\ "README.md", words) do
    page
    |> examples()
    |> Enum.find(&String.contains?(&1, words))
    |> String.replace(
      ["MyApp.Session", "Denylist", "ExampleWorker", "Session"],
      &"#{inspect(__MODULE__)}.#{String.replace_prefix(&1, "MyApp.", "")}"
    )
  end

  defp examples(page) do
    [__DIR__, "..", page]
    |> Path.join()
    |> File.read!()
    |> then(&Regex.scan(~r/^```elixir\n(.*?)^```/ms, &1, capture: :all_but_first))
    |> List.flatten()
  end

  test "every example is Elixir" do
    pages = Path.wildcard(Path.join(__DIR__, "../guides/*.md"))
    assert pages != []

    for page <- ["README.md" | Enum.map(pages, &"guides/#{Path.basename(&1)}")],
        example <- examples(page) do
      Code.string_to_quoted!(example, file: page)
    end
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
    {children, _} = Code.eval_string(example("name: ExampleWorker.Read}"))
    for child <- children, do: start_supervised!(child)
    assert GenRegistry.count(ExampleWorker.Read) == 0

    Code.eval_string(example("lookup_or_start(ExampleWorker"))
    assert [another_id: pid] = GenRegistry.to_list(ExampleWorker)
    {:ok, _} = GenRegistry.lookup_or_start(ExampleWorker, :example_id)

    {_, values} = Code.eval_string(example("reduce(ExampleWorker"))
    assert %{max_id: :another_id, max_value: 2} = Map.new(values)
    assert ExampleWorker.foobars(pid) == 2
  end

  test "coming from Registry and DynamicSupervisor" do
    page = "guides/from_registry.md"
    {[child], _} = Code.eval_string(example(page, "children ="))
    start_supervised!(child)
    {_, values} = Code.eval_string(example(page, "{:ok, pid} ="), id: 17)
    assert Agent.get(values[:pid], & &1) == 17
  end
end
