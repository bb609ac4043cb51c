defmodule GenRegistry.TestingGuideTest do
  @moduledoc """
  The guide to tests: its modules, and its tests, which are tests here as they are written there. Stand-ins
  are in the place of the packages.
  """

  use ExUnit.Case, async: true

  @guide Path.join(__DIR__, "../guides/testing.md")
  @external_resource @guide
  @moduletag :capture_log

  examples = Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!(@guide), capture: :all_but_first)

  {modules, tests} =
    examples |> List.flatten() |> Enum.split_with(&String.starts_with?(&1, "defmodule"))

  for module <- modules, do: Code.eval_string(module, [], file: @guide)
  for test <- tests, do: Code.eval_string(test, [], %{__ENV__ | file: @guide})

  @tests Enum.count(tests, &(&1 =~ ~r/^test /m))

  setup_all do
    start_supervised!(OwnershipStandIn)
    :ok
  end

  setup do
    Ecto.Adapters.SQL.Sandbox.checkout(MyApp.Repo)
  end

  test "all tests of the guide are here" do
    assert @tests >= 6
    names = for %{name: name} <- __MODULE__.__ex_unit__().tests, do: name
    assert length(names) == @tests + 3
  end

  test "the double serves who takes it for a registry" do
    assert MyApp.FakeRegistry.call(:any, 1, :items, []) == ["an item of 1"]
    assert MyApp.FakeRegistry.stop(:any, 1, 100) == :ok
  end

  @tag worker: MyApp.Warehouse
  test "without being allowed, a worker may use nothing", %{registry: registry} do
    Mox.stub(MyApp.PricesMock, :price, fn :apple -> 3 end)

    assert {{:start_failed, {%RuntimeError{message: message}, _}}, _} =
             catch_exit(GenRegistry.call(registry, "here", :price, args: ["here"]))

    assert message =~ "may not use MyApp.PricesMock"
  end
end
