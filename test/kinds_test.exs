defmodule GenRegistry.KindsTest do
  @moduledoc """
  Terms of every kind that this OTP has are ids as they are keys of an ETS `:set`, and do no harm
  wherever else the NIF takes a term. What they are and hold counts towards the limit for ids.
  """

  use ExUnit.Case, async: true

  import Bitwise

  alias GenRegistry.{Native, Table}

  setup %{test: test, module: module} do
    name = Module.concat(module, test)
    start_supervised!({GenRegistry, worker_module: IdleWorker, name: name})
    {:ok, name: name}
  end

  test "a term of any kind is an id", %{name: name} do
    assert_as_ets(name, Terms.zoo())
  end

  test "a term of any kind is part of an id", %{name: name} do
    Enum.each(Terms.zoo(), &assert_as_ets(name, Terms.contained(&1)))
  end

  # Starts, finds, lists and stops them as an ETS table does; copies of them are the same ids.
  defp assert_as_ets(name, ids) do
    model = :ets.new(:model, [:set])

    for id <- ids do
      assert GenRegistry.lookup(name, id) == found(model, id)

      case found(model, id) do
        {:ok, pid} ->
          assert GenRegistry.start(name, id) == {:error, {:already_started, pid}}

        {:error, :not_found} ->
          assert {:ok, pid} = GenRegistry.start(name, id)
          :ets.insert(model, {id, pid})
          assert GenRegistry.lookup_id(name, pid) == {:ok, id}
      end
    end

    for id <- ids, same <- [id, Terms.copy(id)] do
      {:ok, pid} = found(model, id)
      assert GenRegistry.lookup(name, same) == found(model, same)
      assert GenRegistry.lookup_many(name, [:none, same, 1.5]) == many(model, same)
      assert GenRegistry.whereis_name({name, id}) == pid
      assert GenRegistry.lookup_or_start(name, id) == {:ok, pid}
    end

    assert Enum.sort(GenRegistry.to_list(name)) == Enum.sort(:ets.tab2list(model))
    {sampled, pid} = GenRegistry.sample(name)
    assert found(model, sampled) == {:ok, pid}

    for id <- ids do
      expected = if :ets.take(model, id) == [], do: {:error, :not_found}, else: :ok
      assert GenRegistry.stop(name, id) == expected
      assert GenRegistry.lookup(name, id) == {:error, :not_found}
    end

    assert GenRegistry.count(name) == 0
  end

  defp found(model, id) do
    case :ets.lookup(model, id) do
      [{_, pid}] -> {:ok, pid}
      [] -> {:error, :not_found}
    end
  end

  # Magic references, as those of ETS tables, lose what they refer to when they are copied.
  defp many(model, id) do
    for {:ok, pid} <- [found(model, id)], do: {id, pid}
  end

  describe "the NIF's functions" do
    # Arguments with which each one does something, with the table in the place of `:table`.
    @calls [
      alive: [:self],
      begin_start: [:table, :id],
      begin_wait: [:self, :name, :id],
      break_circle: [[:self]],
      circle: [[:self]],
      circle_ids: [[:self]],
      close: [:table],
      seal: [:table],
      count: [:name],
      end_in_order: [:table],
      end_wait: [:self, 1],
      hear_wait: [:self, 1],
      forget_dead: [:table, :self],
      count_left: [:table],
      earlier: [:table],
      end_start: [:table, :self],
      ends?: [:table, :id, :self],
      has_id: [:table, :self],
      killed_at: [:table, 1],
      told: [:table, :self],
      left: [:table, :id],
      note_busy: [:table],
      publish: [:table],
      release_own: [:table, :id],
      scan_guests: [:table, 0],
      set_sweeper: [:table],
      key: [:table],
      starting: [:table],
      sweeper: [:table],
      expected?: [:name],
      give_back: [:table, :self],
      guests: [:name],
      id?: [:id],
      ended_idle: [:table],
      ever: [:table],
      inherit_place: [:table, :self, :self],
      known: [:table, :self],
      leave_place: [:table, :self],
      lookup: [:name, :id],
      lookup_alive: [:name, :id],
      lookup_id: [:name, :self],
      lookup_many: [:name, [:id]],
      measure: [:id, 0],
      measured: [1],
      memory: [:table],
      open: [:name, :infinity],
      owner: [:name],
      processes: [:table],
      promise: [:table, :id, :self],
      refuse: [:table, :self, :self],
      register: [:table, :id, :self, :self],
      release: [:name, :id],
      refers?: [:id],
      retire: [:table, :id],
      sample: [:name],
      scan: [:name, 0],
      scan_children: [:name, 0],
      busy_among: [[:self]],
      hold: [:term],
      hold_large: [:term],
      take: [:held],
      take_large: [:held],
      let_go: [:held],
      local: [:self],
      track: [:table, :self, :self]
    ]

    test "that take terms are all called here" do
      nifs = for {_, arity} = nif when arity > 0 <- Native.module_info(:nifs), do: nif
      called = for {function, args} <- @calls, do: {function, length(args)}
      assert Enum.sort(nifs) == Enum.sort(called)
    end

    test "take a term of any kind as any argument, and in it", %{name: name} do
      name = Module.concat(name, Table)
      Process.register(self(), name)
      table = Table.open(name, :infinity)
      given = %{table: table, name: name, self: self(), held: Native.hold(1)}

      zoo = Terms.zoo()

      for {function, args} <- @calls, function not in [:open, :seal, :close] do
        args = for arg <- args, do: Map.get(given, arg, arg)

        for place <- 0..(length(args) - 1), term <- zoo, arg <- [term, [term], {term}] do
          assert returns_or_refuses?(function, List.replace_at(args, place, arg))
        end
      end

      Native.end_start(table, self())

      for term <- Terms.zoo(), not is_atom(term) do
        assert returns_or_refuses?(:open, [term, :infinity])
        assert returns_or_refuses?(:close, [term])
      end

      # What is no bound is none.
      for term <- Terms.zoo(), do: assert(is_reference(Native.open(name, term)))
    end

    defp returns_or_refuses?(function, args) do
      apply(Native, function, args)
      true
    rescue
      ArgumentError -> true
    end
  end

  describe "at most 16 MB, shared parts counted each time:" do
    # As many as fit and as do not, of parts that are there only once.
    for {what, fits, part} <- [
          {"references", 200_000, quote(do: make_ref())},
          {"references of other nodes", 200_000, quote(do: Terms.external_reference())},
          {"pids of other nodes", 200_000, quote(do: Terms.external_pid())},
          {"ports of other nodes", 200_000, quote(do: Terms.external_port())},
          {"integers of 2,000 bits", 50_000, quote(do: 1 <<< 2_000)},
          {"integers of 600,000 bits", 190, quote(do: 1 <<< 600_000)},
          {"bitstrings", 14, quote(do: <<0::size(8_000_001)>>)},
          {"funs that hold a binary", 14, quote(do: Terms.closure(:binary.copy("x", 1_000_000)))},
          {"funs that hold a list", 8, quote(do: Terms.closure(Enum.to_list(1..100_000)))},
          {"funs that hold funs", 8,
           quote(do: Terms.closure({Terms.closure(Enum.to_list(1..100_000))}))}
        ] do
      test what do
        part = unquote(part)
        assert Table.id?(List.duplicate(part, unquote(fits)))
        refute Table.id?(List.duplicate(part, 2 * unquote(fits)))
      end
    end

    test "native records" do
      wide = Terms.native_records(Enum.to_list(1..1_000))
      assert Enum.all?(wide, &Table.id?/1)
      refute Enum.any?(wide, &Table.id?(List.duplicate(&1, 2_000)))

      for record <- Terms.native_records([:binary.copy("x", 1_000_000)]) do
        assert Table.id?(List.duplicate(record, 14))
        refute Table.id?(List.duplicate(record, 28))
      end
    end
  end

  describe "a call counts as work in proportion to the id:" do
    # Just under what a dirty scheduler is for.
    @ids [
      {"a list", quote(do: Enum.to_list(1..8_000))},
      {"a map", quote(do: Map.new(1..4_000, &{&1, &1}))},
      {"references", quote(do: for(_ <- 1..900, do: make_ref()))},
      {"a deep list", quote(do: Terms.nest(Enum.to_list(1..4_000), :list, 40))},
      {"integers of 2,000 bits", quote(do: for(n <- 1..200, do: (1 <<< 2_000) + n))},
      {"a fun", quote(do: Terms.closure(Enum.to_list(1..3_000)))}
    ]

    for {what, id} <- @ids do
      test what, %{name: name} do
        id = unquote(id)
        {:ok, pid} = GenRegistry.start(name, id)
        table = Table.open(Process.register(self(), __MODULE__) && __MODULE__, :infinity)

        for call <- [
              fn -> GenRegistry.lookup(name, id) end,
              fn -> GenRegistry.lookup_many(name, [id]) end,
              fn -> GenRegistry.lookup_id(name, pid) end,
              fn -> GenRegistry.sample(name) end,
              fn -> GenRegistry.to_list(name) end,
              fn -> Table.id?(id) end,
              fn -> Table.register(table, id, self(), nil) end,
              fn -> Table.retire(table, id) end,
              fn -> Table.room?(table, id) end,
              fn -> Table.release(name, id) end
            ] do
          assert reductions(call) > 60
        end
      end
    end

    test "next to nothing for a small one", %{name: name} do
      for id <- [1, "user", {:user, 1}, make_ref(), 1 <<< 70, %{user: "name"}] do
        {:ok, _} = GenRegistry.start(name, id)
        assert reductions(fn -> GenRegistry.lookup(name, id) end) < 20
      end
    end

    # What one call counts, in the mean of many: a scheduler collects what is less than a percent.
    defp reductions(call) do
      before = own_reductions()
      for _ <- 1..100, do: call.()
      div(own_reductions() - before, 100)
    end

    defp own_reductions do
      {:reductions, reductions} = Process.info(self(), :reductions)
      reductions
    end
  end
end
