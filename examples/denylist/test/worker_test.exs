defmodule Denylist.WorkerTest do
  use Denylist.Case

  alias Denylist.{Calls, Store, Worker}

  @alice "+12015550123"
  @bob "+442079460123"

  test "rules outlive the process" do
    Calls.deny(@alice, @bob)
    :ok = GenRegistry.stop(Worker, @alice)

    assert GenRegistry.lookup(Worker, @alice) == {:error, :not_found}
    assert Calls.place_call(@bob, @alice) == {:error, :reject_call}
  end

  test "rules outlive the application" do
    Calls.deny(@alice, @bob)
    Calls.deny(@bob, "+1*")
    stop()
    start()

    assert Store.size() == {2, 2}
    assert Calls.place_call(@bob, @alice) == {:error, :reject_call}
    assert Calls.place_call(@alice, @bob) == {:error, :reject_call}
  end

  test "every one of many processes saves when the application stops" do
    for n <- 1_000..2_999, do: Calls.deny("+1201555#{n}", @bob)
    stop()
    start()

    assert Store.size() == {2_000, 2_000}
  end

  test "rules taken back are gone from the store" do
    Calls.deny(@alice, @bob)
    :ok = GenRegistry.stop(Worker, @alice)
    assert Store.size() == {1, 1}

    Calls.allow(@alice, @bob)
    :ok = GenRegistry.stop(Worker, @alice)
    assert Store.size() == {0, 0}
  end

  test "only what has changed is saved" do
    {:ok, _} = :mnesia.subscribe({:table, :denylist_rules, :simple})

    Calls.deny(@alice, @bob)
    :ok = GenRegistry.stop(Worker, @alice)
    assert_receive {:mnesia_table_event, {:write, {_, @alice, [@bob]}, _}}

    Calls.place_call(@bob, @alice)
    Calls.deny(@alice, "+44*")
    Calls.allow(@alice, "+44*")
    :ok = GenRegistry.stop(Worker, @alice)
    refute_received {:mnesia_table_event, _}
  end
end
