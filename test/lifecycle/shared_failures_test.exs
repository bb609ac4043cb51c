defmodule GenRegistry.SharedFailuresTest do
  @moduledoc """
  What `start_link` itself failed with is told to all who wait for that id with equal arguments. Other
  failures are not: then each one's own start is tried.
  """

  use ExUnit.Case, async: true

  import Lifecycle

  @moduletag :capture_log

  # Counts its attempts, and fails when it is told to. All callers have this one, which is one term.
  defp failing(attempts, ending) do
    test = self()

    fn ->
      :counters.add(attempts, 1, 1)
      wait(test, :attempt)
      ending.()
    end
  end

  # Callers of one id with these arguments, of both kinds, and one that has its attempt.
  defp forty(registry, args) do
    first = ask(:lookup_or_start, registry, :id, args)
    attempt = reached(:attempt)
    kinds = Enum.take(Stream.cycle([:lookup_or_start, :start]), 39)
    others = ask_all(for kind <- kinds, do: fn -> call(kind, registry, args) end)
    {[first | others], attempt}
  end

  defp call(kind, registry, args), do: apply(GenRegistry, kind, [registry, :id, args, :infinity])

  describe "one attempt, and forty are told, if start_link" do
    for {name, ending, reason} <- [
          {"returns an error", quote(do: {:error, :no_database}), quote(do: :no_database)},
          {"returns :ignore", :ignore, :ignore},
          {"returns what it must not", :other, quote(do: {:bad_return_value, :other})},
          {"raises", quote(do: raise("no")), quote(do: {%RuntimeError{message: "no"}, _})},
          {"throws", quote(do: throw(:ball)), quote(do: {{:nocatch, :ball}, _})},
          {"exits", quote(do: exit(:over)), quote(do: :over)},
          {"has an init that stops",
           quote(do: LifecycleWorker.start_link(fn -> {:stop, :bad} end)), quote(do: :bad)}
        ] do
      test name, context do
        registry = registry(context)
        attempts = :counters.new(1, [])
        args = [:answer, failing(attempts, fn -> unquote(ending) end)]
        {askers, attempt} = forty(registry, args)
        go(attempt)
        for asker <- askers, do: assert({:error, unquote(reason)} = answer(asker))
        assert :counters.get(attempts, 1) == 1
        # Who asks after that has an attempt again.
        later = ask(:lookup_or_start, registry, :id, args)
        go(reached(:attempt))
        assert {:error, unquote(reason)} = answer(later)
      end
    end

    test "though they wait for a place", context do
      registry = registry(context, max_starting: 1)
      holder = ask(:start, registry, :holder, [held(:holder)])
      init = reached(:holder)
      attempts = :counters.new(1, [])
      args = [:answer, failing(attempts, fn -> {:error, :no_database} end)]
      askers = for _ <- 1..40, do: ask(:lookup_or_start, registry, :id, args)
      go(init)
      assert {:ok, _} = answer(holder)
      go(reached(:attempt))
      for asker <- askers, do: assert(answer(asker) == {:error, :no_database})
      assert :counters.get(attempts, 1) == 1
    end
  end

  # A start that fails at once; it tells of itself.
  defp telling(n, result) do
    test = self()

    fn ->
      send(test, {:attempt_of, n})
      result
    end
  end

  test "others have their own start tried, and those after them are told all the same", context do
    registry = registry(context)
    attempts = :counters.new(1, [])
    args = [:answer, failing(attempts, fn -> {:error, :no_database} end)]
    first = ask(:lookup_or_start, registry, :id, args)
    attempt = reached(:attempt)
    other = ask(:start, registry, :id, [:answer, telling(:other, {:error, :other})])
    equal = ask(:start, registry, :id, args)
    go(attempt)
    for asker <- [first, equal], do: assert(answer(asker) == {:error, :no_database})
    assert answer(other) == {:error, :other}
    assert_receive {:attempt_of, :other}
    assert :counters.get(attempts, 1) == 1
  end

  # Funs that are `===` may come from several processes.
  test "funs that each caller made itself are equal arguments", context do
    registry = registry(context)
    attempts = :counters.new(1, [])
    fail = failing(attempts, fn -> {:error, :no_database} end)
    makes_it = fn args -> Task.async(fn -> [fn -> fail.() end | args] end) |> Task.await() end
    assert makes_it.([]) === makes_it.([])

    first = ask(:lookup_or_start, registry, :id, [:answer | makes_it.([])])
    attempt = reached(:attempt)
    askers = for _ <- 1..10, do: ask(:lookup_or_start, registry, :id, [:answer | makes_it.([])])
    go(attempt)
    for asker <- [first | askers], do: assert(answer(asker) == {:error, :no_database})
    assert :counters.get(attempts, 1) == 1
  end

  test "arguments that are equal by == only are others", context do
    registry = registry(context, worker_module: __MODULE__.Numbers)
    test = self()
    first = ask(:lookup_or_start, registry, :id, [test, 1])
    attempt = reached({:attempt, 1})
    others = for n <- [1.0, 1, 1.0], do: ask(:lookup_or_start, registry, :id, [test, n])
    go(attempt)
    assert answer(first) == {:error, {:failed, 1}}
    go(reached({:attempt, 1.0}))

    for {asker, n} <- Enum.zip(others, [1.0, 1, 1.0]) do
      assert {:error, {:failed, answer}} = answer(asker)
      assert answer === n
    end

    refute_received {{:attempt, _}, _}
  end

  defmodule Numbers do
    def start_link(test, n) do
      Lifecycle.wait(test, {:attempt, n})
      {:error, {:failed, n}}
    end
  end

  # Callers before and after one that asks for something else, and the answers when the attempt has failed.
  defp around(registry, attempts, between) do
    args = [:answer, failing(attempts, fn -> {:error, :no_database} end)]
    first = ask(:lookup_or_start, registry, :id, args)
    attempt = reached(:attempt)
    before = ask(:lookup_or_start, registry, :id, args)
    between = ask(between)
    later = ask(:lookup_or_start, registry, :id, args)
    go(attempt)
    for asker <- [first, before], do: assert(answer(asker) == {:error, :no_database})
    {between, later}
  end

  test "who asked after a stop has an own start", context do
    registry = registry(context)
    attempts = :counters.new(1, [])

    {stop, later} =
      around(registry, attempts, fn -> GenRegistry.stop(registry, :id, :infinity) end)

    assert answer(stop) == {:error, :not_found}
    go(reached(:attempt))
    assert answer(later) == {:error, :no_database}
    assert :counters.get(attempts, 1) == 2
  end

  test "who asked after a registration gets the process that registered itself", context do
    registry = registry(context)
    test = self()

    register = fn ->
      send(test, {:registered, GenRegistry.register_name({registry, :id}, self())})
      hang()
    end

    {%{pid: guest}, later} = around(registry, :counters.new(1, []), register)
    assert_receive {:registered, :yes}
    assert answer(later) == {:ok, guest}
  end

  describe "each has an own start, if" do
    test "a starter was killed", context do
      registry = registry(context, worker_shutdown: 0)
      attempts = :counters.new(1, [])
      args = [:answer, failing(attempts, fn -> LifecycleWorker.start_link(plain()) end)]
      first = ask(:lookup_or_start, registry, :id, args)
      attempt = reached(:attempt)
      second = ask(:lookup_or_start, registry, :id, args)
      kill(attempt)
      assert answer(first) == {:error, {:starter_died, :killed}}
      go(reached(:attempt))
      assert {:ok, _} = answer(second)
    end

    for {name, answer, reason} <- [
          {"a process has an id already", quote(do: fn other, _ -> {:ok, other} end),
           :already_registered},
          {"a process is on another node", quote(do: fn _, remote -> {:ok, remote} end),
           :not_local}
        ] do
      test name, context do
        registry = registry(context)
        other = start!(registry, :other)
        node = "other@nowhere"
        external = <<131, 88, 119, byte_size(node), node::binary, 1::32, 2::32, 3::32>>
        remote = :erlang.binary_to_term(external)
        attempts = :counters.new(1, [])

        # From its second attempt on, it is a start as any other.
        result = fn ->
          if :counters.get(attempts, 1) == 1,
            do: unquote(answer).(other, remote),
            else: LifecycleWorker.start_link(plain())
        end

        args = [:answer, failing(attempts, result)]
        first = ask(:lookup_or_start, registry, :id, args)
        attempt = reached(:attempt)
        second = ask(:lookup_or_start, registry, :id, args)
        go(attempt)
        assert {:error, {unquote(reason), _}} = answer(first)
        go(reached(:attempt))
        assert {:ok, _} = answer(second)
      end
    end
  end
end
