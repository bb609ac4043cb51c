defmodule GenRegistry.SessionServerTest do
  @moduledoc """
  The workers of the guide, as they are written there but for how long they wait: none of their calls is
  lost, nor what a session has stored.
  """

  use ExUnit.Case

  @callers 8
  @rounds 2_000
  # So many that some of them are idle at any time.
  @ids 200

  defmodule Store do
    @moduledoc "What sessions have saved."
    def open, do: :ets.new(__MODULE__, [:public, :named_table])

    def load(id) do
      case :ets.lookup(__MODULE__, id) do
        [{_, data}] -> data
        [] -> %{}
      end
    end

    def save(id, data) do
      :ets.insert(__MODULE__, {id, data})
      :ets.update_counter(__MODULE__, :saved, 1, {:saved, 0})
    end

    def saved, do: :ets.lookup_element(__MODULE__, :saved, 2)
  end

  # As a reader would have it, with an idle time of a millisecond.
  defp compile(module) do
    guide = File.read!(Path.join(__DIR__, "../guides/in_production.md"))
    [code] = Regex.run(~r/^defmodule MyApp\.#{module} do.*?^end$/ms, guide)
    assert code =~ "@idle 5 * 60_000"

    code
    |> String.replace("@idle 5 * 60_000", "@idle 1")
    |> String.replace("MyApp.", "#{inspect(__MODULE__)}.")
    |> Code.eval_string()

    Module.concat(__MODULE__, module)
  end

  defp together(fun) do
    1..@callers |> Enum.map(&Task.async(fn -> fun.(&1) end)) |> Task.await_many(:infinity)
  end

  test "a session with a timeout" do
    Store.open()
    session = compile("Session")
    start_supervised!({GenRegistry, worker_module: session})

    together(fn caller ->
      for n <- 1..@rounds do
        id = rem(n, @ids)
        # What was put is there, in this process of the id or in a later one.
        :ok = session.put(id, {caller, n}, n)
        assert session.fetch(id, {caller, n}) == {:ok, n}
        assert session.fetch(id, :nothing) == :error
      end
    end)

    for caller <- 1..@callers, n <- 1..@rounds do
      assert session.fetch(rem(n, @ids), {caller, n}) == {:ok, n}
    end

    assert Store.saved() > @ids
  end

  test "a session with a timer" do
    presence = compile("Presence")
    start_supervised!({GenRegistry, worker_module: presence})

    counts =
      together(fn _caller ->
        for n <- 1..@rounds, do: presence.touch(rem(n, @ids))
      end)

    # Each process counts from 1, and each of its calls has a number.
    counts = Enum.concat(counts)
    assert length(counts) == @callers * @rounds
    assert Enum.count(counts, &(&1 == 1)) > @ids
  end
end
