defmodule Denylist.CallsTest do
  use Denylist.Case

  alias Denylist.{Calls, Worker}

  doctest Denylist.Calls

  @alice "+12015550123"
  @bob "+442079460123"
  @carol "+4930123456"

  test "one process per recipient, started by its first call" do
    assert GenRegistry.lookup(Worker, @alice) == {:error, :not_found}

    Calls.place_call(@bob, @alice)
    {:ok, pid} = GenRegistry.lookup(Worker, @alice)
    Calls.place_call(@carol, @alice)

    assert GenRegistry.lookup(Worker, @alice) == {:ok, pid}
    assert GenRegistry.count(Worker) == 1
  end

  test "a recipient's rules are for its own calls" do
    Calls.deny(@alice, @bob)

    assert Calls.place_call(@bob, @alice) == {:error, :reject_call}
    assert Calls.place_call(@carol, @alice) == {:ok, :place_call}
    assert Calls.place_call(@bob, @carol) == {:ok, :place_call}
  end

  test "a sender denied by prefix is allowed again" do
    Calls.deny(@alice, "+44*")
    assert Calls.place_call(@bob, @alice) == {:error, :reject_call}

    Calls.allow(@alice, "+44*")
    assert Calls.place_call(@bob, @alice) == {:ok, :place_call}
  end

  test "many callers at once share one process" do
    answers =
      1..100
      |> Task.async_stream(fn _ -> Calls.place_call(@bob, @alice) end, max_concurrency: 100)
      |> Enum.uniq()

    assert answers == [ok: {:ok, :place_call}]
    assert GenRegistry.count(Worker) == 1
  end
end
