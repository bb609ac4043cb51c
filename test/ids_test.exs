defmodule GenRegistry.IdsTest do
  @moduledoc """
  An id is any term, and two ids are the same exactly when they are `===`, as in an ETS `:set`.
  """

  use ExUnit.Case, async: true

  import Bitwise

  setup %{test: test, module: module} do
    name = Module.concat(module, test)
    start_supervised!({GenRegistry, worker_module: IdleWorker, name: name})
    {:ok, name: name}
  end

  # Every one of these terms works as an id, by itself and beside all the others.
  defp assert_ids(name, terms) do
    Enum.each(terms, &assert_alone(name, &1))
    assert_together(name, terms)
  end

  defp assert_alone(name, id) do
    # The same id on other heaps. Literals of the code, and what a message brought.
    copies = [id, Terms.copy(id), sent(id)]

    for copy <- copies do
      assert GenRegistry.lookup(name, copy) == {:error, :not_found}
      assert GenRegistry.stop(name, copy) == {:error, :not_found}
    end

    assert {:ok, pid} = GenRegistry.start(name, id)

    for copy <- copies do
      assert GenRegistry.lookup(name, copy) == {:ok, pid}
      assert GenRegistry.lookup_or_start(name, copy) == {:ok, pid}
      assert GenRegistry.start(name, copy) == {:error, {:already_started, pid}}
      assert GenRegistry.lookup_or_start(Process.whereis(name), copy) == {:ok, pid}
    end

    assert elsewhere(fn -> GenRegistry.lookup(name, id) end) == {:ok, pid}
    assert GenRegistry.count(name) == 1
    assert [{listed, ^pid}] = GenRegistry.to_list(name)
    assert listed === id
    assert {sampled, ^pid} = GenRegistry.sample(name)
    assert sampled === id
    assert [{reduced, ^pid}] = GenRegistry.reduce(name, [], &[&1 | &2])
    assert reduced === id
    assert [{child, ^pid, :worker, [IdleWorker]}] = Supervisor.which_children(name)
    assert child === id

    # What came back finds the process as well.
    assert GenRegistry.lookup(name, listed) == {:ok, pid}
    assert GenRegistry.stop(name, Terms.copy(id)) == :ok
    assert GenRegistry.lookup(name, id) == {:error, :not_found}
    assert GenRegistry.stop(name, id) == {:error, :not_found}
    assert GenRegistry.count(name) == 0

    # It may be used again, and goes with its process.
    assert {:ok, pid} = GenRegistry.lookup_or_start(name, Terms.copy(id))
    assert GenRegistry.lookup(name, id) == {:ok, pid}
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _}
    assert GenRegistry.lookup(name, id) == {:error, :not_found}
    assert GenRegistry.to_list(name) == []
  end

  # ETS says which of them are the same.
  defp assert_together(name, terms) do
    table = :ets.new(:model, [:set])

    for id <- terms do
      case :ets.lookup(table, id) do
        [] ->
          assert {:ok, pid} = GenRegistry.start(name, id)
          :ets.insert(table, {id, pid})

        [{_, pid}] ->
          assert GenRegistry.start(name, id) == {:error, {:already_started, pid}}
      end
    end

    for id <- terms do
      [{_, pid}] = :ets.lookup(table, id)
      assert GenRegistry.lookup(name, id) == {:ok, pid}
      assert GenRegistry.lookup(name, Terms.copy(id)) == {:ok, pid}
    end

    assert_same_entries(name, table)

    # In another order than they came.
    for id <- Enum.sort_by(terms, &:erlang.phash2/1) do
      expected = if :ets.take(table, id) == [], do: {:error, :not_found}, else: :ok
      assert GenRegistry.stop(name, Terms.copy(id)) == expected
    end

    assert GenRegistry.to_list(name) == []
    assert GenRegistry.count(name) == 0
  end

  defp assert_same_entries(name, table) do
    entries = GenRegistry.to_list(name)
    assert length(entries) == :ets.info(table, :size)
    assert GenRegistry.count(name) == :ets.info(table, :size)
    by_pid = Map.new(:ets.tab2list(table), fn {id, pid} -> {pid, id} end)
    for {id, pid} <- entries, do: assert(Map.fetch!(by_pid, pid) === id)
  end

  defp sent(term) do
    {pid, monitor} =
      spawn_monitor(fn -> receive(do: ({from, term} -> send(from, {self(), term}))) end)

    send(pid, {self(), term})
    assert_receive {^pid, term}
    assert_receive {:DOWN, ^monitor, _, _, _}
    term
  end

  defp elsewhere(fun), do: fun |> Task.async() |> Task.await(:infinity)

  defp around(number), do: Enum.to_list((number - 2)..(number + 2))

  describe "integers" do
    test "small ones", %{name: name} do
      assert_ids(name, Enum.to_list(-300..300))
    end

    test "around the borders of words, small integers and bytes", %{name: name} do
      borders =
        for bits <- [8, 16, 27, 28, 31, 32, 58, 59, 60, 61, 62, 63, 64, 65, 127, 128],
            do: 1 <<< bits

      assert_ids(name, Enum.flat_map(borders, &(around(&1) ++ around(-&1))))
    end

    test "huge ones", %{name: name} do
      huge = for bits <- [200, 256, 1_000, 4_096, 100_000, 600_000], do: 1 <<< bits
      assert_ids(name, Enum.flat_map(huge, &[&1, -&1, &1 + 1, &1 - 1]))
    end
  end

  test "floats", %{name: name} do
    <<least::float>> = <<1::64>>
    <<greatest::float>> = <<0x7FEFFFFFFFFFFFFF::64>>

    floats = [
      1.0,
      0.1,
      0.5,
      3.14,
      1.0e10,
      1.0e22,
      1.0e300,
      1.0e-300,
      least,
      greatest,
      9_007_199_254_740_993.0
    ]

    assert_ids(name, floats ++ Enum.map(floats, &-/1))
  end

  test "a float is not the integer of its value", %{name: name} do
    numbers = [1, 1.0, -1, -1.0, 0, 0.0, 1 <<< 60, (1 <<< 60) * 1.0, 1 <<< 64, (1 <<< 64) * 1.0]
    assert_together(name, numbers)

    assert_together(
      name,
      Enum.flat_map(numbers, &[{&1}, {:user, &1}, [&1], %{&1 => &1}, [:a | &1]])
    )

    # All of which are two, apart from 0 and 0.0, which are two as well.
    for number <- numbers, do: {:ok, _} = GenRegistry.start(name, number)
    assert GenRegistry.count(name) == length(numbers)
  end

  test "the zeros of both signs are one or two, as they are for this VM", %{name: name} do
    plus = :erlang.binary_to_term(<<131, 70, 0::64>>)
    minus = Terms.negative_zero()
    same? = :erlang.binary_to_term(<<131, 70, 1::1, 0::63>>) === plus

    kinds = [
      & &1,
      &{&1},
      &{:user, &1},
      &[&1],
      &[:a | &1],
      &%{&1 => 1},
      &%{1 => &1},
      # Held as copies by the table, not as words.
      &{make_ref_of_this_test(), &1},
      &Terms.nest(&1, :tuple, 40),
      &Terms.closure/1
    ]

    for kind <- kinds do
      assert_together(name, [kind.(plus), kind.(minus)])
      assert kind.(plus) === kind.(minus) == same?
      {:ok, _} = GenRegistry.start(name, kind.(plus))
      assert match?({:ok, _}, GenRegistry.start(name, kind.(minus))) == not same?
      assert GenRegistry.stop(name, kind.(minus)) == :ok
      assert GenRegistry.lookup(name, kind.(plus)) == {:error, :not_found} == same?
      GenRegistry.stop(name, kind.(plus))
    end
  end

  test "atoms and other words", %{name: name} do
    longest = String.to_atom(String.duplicate("ü", 255))

    atoms = [
      :a,
      :A,
      nil,
      true,
      false,
      :undefined,
      :"",
      :"with space",
      :ω,
      longest,
      IO,
      Elixir,
      :"nil "
    ]

    assert_ids(name, atoms ++ [[], {}, "", %{}, 0, self(), hd(Port.list())])
  end

  describe "binaries" do
    test "of every length", %{name: name} do
      assert_ids(name, for(size <- 0..100, do: :binary.part(bytes(100), 0, size)))
    end

    test "of zeros only, which differ in their length", %{name: name} do
      zeros = for size <- 0..100, do: <<0::size(size)-unit(8)>>
      assert_ids(name, zeros)
      assert_ids(name, Enum.map(zeros, &{:user, &1}))
    end

    test "that differ in any one byte", %{name: name} do
      for size <- [1, 7, 8, 9, 16, 17, 40, 41, 48, 49, 64, 100] do
        binary = bytes(size)

        changed =
          for at <- 0..(size - 1) do
            changed = bxor(:binary.at(binary, at), 1)
            rest = binary_part(binary, at + 1, size - at - 1)
            <<binary_part(binary, 0, at)::binary, changed, rest::binary>>
          end

        assert_together(name, [binary | changed])
      end
    end

    test "that are parts of others", %{name: name} do
      for size <- [0, 1, 8, 20, 48, 49, 64, 65, 100] do
        binary = bytes(size)
        aligned = binary_part(<<1, binary::binary, 2, 3>>, 1, size)
        parts = [aligned, Terms.part(binary), {:user, Terms.part(binary)}, [Terms.part(binary)]]
        assert_ids(name, parts)

        {:ok, pid} = GenRegistry.start(name, Terms.part(binary))
        for same <- [binary, aligned], do: assert(GenRegistry.lookup(name, same) == {:ok, pid})
        assert GenRegistry.stop(name, binary) == :ok

        {:ok, pid} = GenRegistry.start(name, {:user, binary})
        assert GenRegistry.lookup(name, {:user, Terms.part(binary)}) == {:ok, pid}
        assert GenRegistry.stop(name, {:user, aligned}) == :ok
      end
    end

    test "are kept alive by nobody once they are gone", %{name: name} do
      # An id that was a part of a large binary must not hold on to all of it.
      part = :binary.part(bytes(1_000_000), 100, 80)
      {:ok, _} = GenRegistry.start(name, part)
      [{listed, _}] = GenRegistry.to_list(name)
      assert :binary.referenced_byte_size(listed) == 80
    end

    test "an atom and a binary of every length", %{name: name} do
      assert_ids(name, for(size <- 0..60, do: {:user, :binary.part(bytes(60), 0, size)}))

      assert_together(
        name,
        for(atom <- [:a, :b, nil, 1, []], size <- 0..60, do: {atom, bytes(size)})
      )
    end
  end

  test "bitstrings", %{name: name} do
    bits = for size <- 1..70, rem(size, 8) != 0, do: <<0::size(size)>>
    assert_ids(name, bits ++ [<<1::1>>, <<1::7>>, <<255, 1::1>>, <<bytes(100)::binary, 5::3>>])

    # Beside what looks like them.
    alike = [
      <<0::7>>,
      <<0>>,
      <<0::9>>,
      <<0, 0>>,
      0,
      "",
      [0],
      {<<0::7>>},
      {<<0>>},
      [<<0::7>>],
      %{a: <<0::7>>}
    ]

    assert_ids(name, alike)
  end

  describe "tuples" do
    test "of every size, of words", %{name: name} do
      assert_ids(name, for(size <- 0..10, do: List.to_tuple(Enum.to_list(1..size//1))))
      assert_ids(name, for(size <- 0..10, do: Tuple.duplicate(nil, size)))

      assert_ids(name, [
        {:a, :b},
        {:b, :a},
        {:a, 1, []},
        {1, :a, []},
        {self(), :a},
        {{}},
        {{}, {}}
      ])
    end

    test "of every size, of everything", %{name: name} do
      mixed = ["binary", 1.5, :atom, {1, 2}, [1, 2], %{a: 1}, 1 <<< 62, bytes(60), nil, -1]
      assert_ids(name, for(size <- 0..10, do: List.to_tuple(Enum.take(mixed, size))))

      assert_ids(
        name,
        for(size <- 1..10, do: List.to_tuple(Enum.take(Enum.reverse(mixed), size)))
      )

      # The odd one at every place.
      assert_ids(
        name,
        for(size <- 1..10, at <- 0..(size - 1), do: put_elem(Tuple.duplicate(0, size), at, "0"))
      )
    end

    test "that hold the same in other arrangements", %{name: name} do
      assert_ids(name, [
        {1, {2, 3}},
        {{1, 2}, 3},
        {1, 2, 3},
        {{1, 2, 3}},
        {1, [2, 3]},
        [{1, 2}, 3],
        {[1, 2], 3},
        [1, 2, 3],
        [1, 2 | 3],
        [1 | {2, 3}],
        [[1, 2], 3],
        {"a", "b"},
        {"ab"},
        {"ab", ""},
        {"", "ab"},
        {:user, "ab"},
        {"ab", :user},
        [:user, "ab"],
        [:user | "ab"],
        %{user: "ab"},
        {:user, ~c"ab"},
        {:user, :ab},
        "userab",
        {"user", "ab"},
        {:user, ["ab"]},
        {:user, {"ab"}},
        {{:user, "ab"}}
      ])
    end
  end

  describe "lists" do
    test "proper and improper ones, and charlists", %{name: name} do
      assert_ids(name, [
        [],
        [[]],
        [[], []],
        [[[]]],
        [1],
        [1, 2],
        [2, 1],
        [1 | 2],
        [1, 2 | 3],
        [1, 2, 3],
        [[1 | 2] | 3],
        [[1, 2] | 3],
        [1 | "binary"],
        [1, "binary"],
        [1 | {}],
        [1 | %{}],
        [nil],
        [nil | nil],
        ~c"charlist",
        "charlist",
        :charlist,
        [a: 1, b: 2],
        [b: 2, a: 1],
        %{a: 1, b: 2},
        Enum.to_list(1..1_000),
        Enum.to_list(1..999) ++ 1_000
      ])
    end
  end

  describe "deep nesting" do
    for kind <- [:tuple, :pair, :list, :tail, :map, :key] do
      test "of every depth: #{kind}", %{name: name} do
        kind = unquote(kind)
        assert_ids(name, for(levels <- 1..100, do: Terms.nest("x", kind, levels)))

        # As deep, but with something else at the bottom.
        bottoms = ["x", "y", :x, 1, 1.0, [], {}, <<1::1>>, 1 <<< 70]

        deep =
          for levels <- [1, 30, 31, 32, 33, 34, 100],
              bottom <- bottoms,
              do: Terms.nest(bottom, kind, levels)

        assert_ids(name, deep)
      end
    end

    test "of ten thousand levels", %{name: name} do
      assert_ids(name, for(kind <- [:tuple, :list, :tail, :map], do: Terms.nest(1, kind, 10_000)))
    end
  end

  describe "maps" do
    test "of every size, put together in any order", %{name: name} do
      for size <- 0..100 do
        pairs = for n <- 1..size//1, do: {key(n), n}
        map = Map.new(pairs)
        {:ok, pid} = GenRegistry.start(name, map)

        for order <- [
              Enum.reverse(pairs),
              Enum.shuffle(pairs),
              Enum.sort_by(pairs, &:erlang.phash2/1)
            ] do
          same = Enum.reduce(order, %{}, fn {key, value}, map -> Map.put(map, key, value) end)
          assert GenRegistry.lookup(name, same) == {:ok, pid}
        end

        # One that was larger once.
        grown = Enum.reduce(101..200, map, &Map.put(&2, &1, &1))
        shrunk = Enum.reduce(101..200, grown, &Map.delete(&2, &1))
        assert GenRegistry.lookup(name, shrunk) == {:ok, pid}
      end

      assert GenRegistry.count(name) == 101
    end

    test "by themselves and beside one another", %{name: name} do
      maps =
        for size <- [0, 1, 2, 5, 31, 32, 33, 34, 64, 100], do: Map.new(1..size//1, &{key(&1), &1})

      assert_ids(name, maps)

      assert_ids(name, [
        %{a: 1},
        %{a: 1.0},
        %{a: 2},
        %{b: 1},
        %{"a" => 1},
        %{1 => :a},
        %{1.0 => :a},
        %{a: 1, b: 2},
        %{a: 2, b: 1},
        %{1 => 2, 3 => 4},
        %{1 => 3, 2 => 4},
        %{1 => 4, 3 => 2},
        %{a: %{b: %{c: 1}}},
        %{a: %{b: %{c: 1.0}}},
        %{a: nil},
        %{nil => nil}
      ])
    end

    test "as keys of maps, in any order", %{name: name} do
      keys = for n <- 1..50, do: Map.new(1..(rem(n, 40) + 1), &{key(&1), n})
      forwards = Enum.reduce(keys, %{}, &Map.put(&2, &1, map_size(&1)))
      backwards = Enum.reduce(Enum.reverse(keys), %{}, &Map.put(&2, Terms.copy(&1), map_size(&1)))
      assert_ids(name, [forwards, %{forwards => forwards}, %{forwards => 1}, [forwards]])

      {:ok, pid} = GenRegistry.start(name, %{forwards => %{forwards => 1}})
      assert GenRegistry.lookup(name, %{backwards => %{backwards => 1}}) == {:ok, pid}
    end

    test "with keys and values that are kept as copies", %{name: name} do
      reference = make_ref()
      pairs = for n <- 1..40, do: {{reference, n}, Terms.closure(n)}
      map = Map.new(pairs)

      assert_ids(name, [
        map,
        %{reference => 1},
        %{1 => reference},
        Map.delete(map, {reference, 1})
      ])

      {:ok, pid} = GenRegistry.start(name, map)

      same =
        Enum.reduce(Enum.reverse(pairs), %{}, fn {key, value}, map -> Map.put(map, key, value) end)

      assert GenRegistry.lookup(name, same) == {:ok, pid}
    end

    test "that are structs", %{name: name} do
      uri = URI.parse("https://example.com/path?query")
      date = ~D[2024-02-29]

      assert_ids(name, [
        uri,
        Map.from_struct(uri),
        %{uri | port: 80},
        date,
        %{date | day: 28},
        ~T[12:00:00],
        1..10,
        1..10//2,
        MapSet.new(1..100),
        MapSet.new(1..99),
        ~r/regex/,
        %ArgumentError{message: "m"},
        %RuntimeError{message: "m"}
      ])
    end
  end

  test "funs", %{name: name} do
    reference = make_ref()
    x = :rand.uniform(10)

    assert_ids(name, [
      &String.length/1,
      &String.upcase/1,
      &String.upcase/2,
      &:erlang.abs/1,
      Function.capture(No.Such, :function, 3),
      fn -> :no_environment end,
      fn -> :another end,
      fn -> x end,
      Terms.closure(1),
      Terms.closure(1.0),
      Terms.closure("1"),
      Terms.closure({1, [2, %{}]}),
      Terms.closure(reference),
      Terms.closure(Terms.closure(1)),
      Terms.other_closure(1),
      Terms.closure(bytes(1_000))
    ])
  end

  # So many that some of those that are looked for have the hash of one that is there, where hashes
  # have 32 bits. Integers of this size are compared by the VM.
  test "of equal hashes are still told apart", %{name: name} do
    there = 1 <<< 70
    others = -(1 <<< 70)
    for n <- 1..30_000, do: {:ok, _} = GenRegistry.start(name, there + n)

    found =
      Enum.count(1..900_000, &(GenRegistry.lookup(name, others - &1) != {:error, :not_found}))

    assert found == 0
  end

  test "references", %{name: name} do
    table = :ets.new(:table, [])
    counters = :counters.new(1, [])
    alias_reference = :erlang.alias()
    references = for _ <- 1..50, do: make_ref()

    assert_ids(
      name,
      references ++
        [table, counters, alias_reference | Enum.map(1..3, &Terms.external_reference/1)]
    )

    # The things behind them are as usable as before.
    assert :ets.info(table, :size) == 0
    assert :counters.get(counters, 1) == 0
  end

  test "pids and ports, of this node and others", %{name: name} do
    pids = for _ <- 1..20, do: spawn(fn -> :ok end)
    ports = Port.list()
    other_node = Terms.external_pid(1, "another@nowhere")
    assert [_ | _] = ports

    assert_ids(
      name,
      pids ++
        [self(), other_node | ports] ++
        Enum.map(1..3, &Terms.external_pid/1) ++ Enum.map(1..3, &Terms.external_port/1)
    )
  end

  test "all of them inside tuples, lists and maps", %{name: name} do
    leaves = [
      1,
      1.0,
      -0.5,
      1 <<< 62,
      1 <<< 63,
      1 <<< 70,
      -(1 <<< 70),
      :atom,
      nil,
      "binary",
      bytes(49),
      <<1::3>>,
      [],
      {},
      %{},
      &String.length/1,
      Terms.closure(1),
      make_ref_of_this_test(),
      self(),
      hd(Port.list()),
      Terms.external_pid(),
      Terms.external_port(),
      Terms.external_reference()
    ]

    mixtures =
      for a <- leaves, b <- leaves do
        Enum.random([{a, b}, [a, b], [a | b], %{a => b}, {a, {b}}, {:user, a, b}, {[a], %{b: b}}])
      end

    assert_ids(name, for(a <- leaves, do: {a}))
    assert_ids(name, for(a <- leaves, do: {:user, a}))
    assert_ids(name, for(a <- leaves, do: [a]))
    assert_ids(name, for(a <- leaves, do: [:user | a]))
    assert_ids(name, for(a <- leaves, do: %{a => :user}))
    assert_ids(name, for(a <- leaves, do: %{user: a}))
    assert_ids(name, mixtures)
  end

  describe "large ids" do
    # From 64 KB on they are too long for a normal scheduler.
    @sizes [65_535, 65_537, 1_048_576]

    test "binaries", %{name: name} do
      large = for size <- @sizes, do: bytes(size)
      assert_ids(name, large)
      assert_ids(name, Enum.map(large, &{:user, &1}))
      assert_ids(name, Enum.map(large, &[&1]))
      assert_ids(name, Enum.map(large, &%{&1 => &1}))
      assert_ids(name, Enum.map(large, &Terms.part/1))
      assert_ids(name, Enum.map(large, &<<&1::binary, 1::1>>))
      assert_ids(name, Enum.map(large, &Terms.closure/1))
    end

    test "that differ in their last bit only", %{name: name} do
      for size <- @sizes do
        body = bytes(size - 1)
        ids = for last <- 0..3, do: <<body::binary, last>>
        assert_ids(name, ids)
        assert_ids(name, Enum.map(ids, &{:user, &1}))
      end
    end

    test "lists", %{name: name} do
      for size <- [8_191, 8_192, 8_193, 20_000] do
        list = Enum.to_list(1..size)
        assert_ids(name, [list, Enum.reverse(list), List.replace_at(list, -1, 0), list ++ :end])
      end

      # Long, and such as are kept as copies.
      assert_ids(name, [List.duplicate(make_ref(), 20_000), List.duplicate(<<1::1>>, 20_000)])
    end

    # Excluded where all is slow, as under a sanitizer.
    @tag :timed
    test "hold up no scheduler, whatever is in them", %{name: name} do
      # A process is not told of itself.
      test = self()

      {caller, made} =
        spawn_monitor(fn ->
          ids = for element <- [1, make_ref(), 2 ** 100], do: List.duplicate(element, 2_000_000)
          :erlang.garbage_collect()
          send(test, :made)
          receive do: (:go -> for(id <- ids, do: GenRegistry.lookup(name, id)))
        end)

      assert_receive :made, 10_000
      :erlang.system_monitor(self(), long_schedule: 50)
      send(caller, :go)
      assert_receive {:DOWN, ^made, :process, ^caller, :normal}, 10_000
      :erlang.system_monitor(:undefined)
      refute_received {:monitor, ^caller, :long_schedule, _}
    end

    test "are answered by dirty schedulers, others where they are asked for", %{name: name} do
      lists = for element <- [1, make_ref()], do: List.duplicate(element, 20_000)

      large = [
        Terms.closure(bytes(100_000)),
        <<bytes(100_000)::binary, 1::1>>,
        2 ** 600_000 | lists
      ]

      small = [
        1,
        make_ref(),
        {2 ** 100},
        &String.length/1,
        Terms.closure(1),
        <<1::1>>,
        2 ** 3_000
      ]

      for {ids, dirty?} <- [{large, true}, {small, false}], id <- ids do
        {:ok, pid} = GenRegistry.start(name, id)

        for {read, called} <- [
              {fn -> GenRegistry.sample(name) end, {:lookup_id, 2}},
              {fn -> GenRegistry.to_list(name) end, {:scan, 2}},
              {fn -> GenRegistry.lookup_id(name, pid) end, {:lookup_id, 2}}
            ] do
          assert goes_to_another_scheduler?(read, called) == dirty?
        end

        assert GenRegistry.stop(name, id) == :ok
      end
    end

    # Whether a process that calls this function of the NIF's is taken off its scheduler for that.
    defp goes_to_another_scheduler?(read, {function, arity}) do
      {reader, monitor} = spawn_monitor(fn -> receive do: (:go -> read.()) end)
      :erlang.trace(reader, true, [:running])
      send(reader, :go)
      assert_receive {:DOWN, ^monitor, :process, ^reader, :normal}
      delivered = :erlang.trace_delivered(reader)
      assert_receive {:trace_delivered, ^reader, ^delivered}
      out = {GenRegistry.Native, function, arity}
      {:messages, messages} = Process.info(self(), :messages)
      {:trace, reader, :out, out} in messages
    end

    test "tuples", %{name: name} do
      for size <- [8_191, 8_192, 8_193, 20_000] do
        tuple = Tuple.duplicate(:element, size)
        assert_ids(name, [tuple, put_elem(tuple, size - 1, 1), put_elem(tuple, 0, "1")])
      end
    end

    test "maps", %{name: name} do
      for size <- [2_048, 10_000] do
        map = Map.new(1..size, &{&1, &1})
        same = Enum.reduce(size..1//-1, %{}, &Map.put(&2, &1, &1))

        assert_ids(name, [map, Map.put(map, size, 0), Map.new(map, fn {k, v} -> {v, k * 1.0} end)])

        {:ok, pid} = GenRegistry.start(name, map)
        assert GenRegistry.lookup(name, same) == {:ok, pid}
        assert GenRegistry.stop(name, same) == :ok
      end
    end

    test "beside small ones", %{name: name} do
      binary = bytes(1_048_576)
      {:ok, large} = GenRegistry.start(name, binary)
      {:ok, small} = GenRegistry.start(name, "small")

      Enum.each(1..4, fn _ ->
        assert GenRegistry.lookup(name, "small") == {:ok, small}
        assert GenRegistry.lookup(name, Terms.copy(binary)) == {:ok, large}
        assert GenRegistry.lookup(name, binary <> "x") == {:error, :not_found}
      end)
    end

    test "under a name that no registry has", %{name: name} do
      for id <- [bytes(1_048_576), Enum.to_list(1..100_000)] do
        never = Module.concat(name, Never)
        assert_raise ArgumentError, fn -> GenRegistry.lookup(never, id) end
        assert_raise ArgumentError, fn -> GenRegistry.lookup_or_start(never, id) end
      end
    end
  end

  # Run again with `mix test --seed` and the seed that ExUnit prints: all is the same again.
  test "arbitrary terms are told apart as ETS does", %{name: name} do
    seed = ExUnit.configuration()[:seed]
    :rand.seed(:exsss, {seed, 1, 2})
    model = :ets.new(:model, [:set])

    Enum.reduce(1..10_000, [], fn step, known ->
      id = choose(known)
      operation = Enum.at([:start, :start, :lookup, :lookup, :stop], :rand.uniform(5) - 1)

      try do
        agree(operation, name, model, id)
        assert GenRegistry.count(name) == :ets.info(model, :size)
        if rem(step, 1_000) == 0, do: assert_same_entries(name, model)
      rescue
        error in ExUnit.AssertionError ->
          at = "at step #{step} with seed #{seed}: #{operation} #{inspect(id, limit: :infinity)}"
          reraise %{error | message: "#{error.message}\n#{at}"}, __STACKTRACE__
      end

      Enum.take([id | known], 500)
    end)

    # There was something to compare.
    assert :ets.info(model, :size) > 1_000
    for {id, pid} <- :ets.tab2list(model), do: assert(GenRegistry.lookup(name, id) == {:ok, pid})
  end

  # A new one, a known one, or one that is almost known: the same with one place changed, or all of
  # it in other memory.
  defp choose([]), do: Terms.random()

  defp choose(known) do
    case :rand.uniform(8) do
      n when n <= 2 -> Terms.random()
      3 -> Enum.at(known, :rand.uniform(length(known)) - 1)
      n when n <= 5 -> Terms.copy(Enum.at(known, :rand.uniform(length(known)) - 1))
      _ -> Terms.mutate(Enum.at(known, :rand.uniform(length(known)) - 1))
    end
  end

  defp agree(:start, name, model, id) do
    case :ets.lookup(model, id) do
      [] ->
        assert {:ok, pid} = GenRegistry.start(name, id)
        :ets.insert(model, {id, pid})

      [{_, pid}] ->
        assert GenRegistry.start(name, id) == {:error, {:already_started, pid}}
    end
  end

  defp agree(:lookup, name, model, id) do
    case :ets.lookup(model, id) do
      [] -> assert GenRegistry.lookup(name, id) == {:error, :not_found}
      [{_, pid}] -> assert GenRegistry.lookup(name, id) == {:ok, pid}
    end
  end

  defp agree(:stop, name, model, id) do
    expected = if :ets.take(model, id) == [], do: {:error, :not_found}, else: :ok
    assert GenRegistry.stop(name, id) == expected
  end

  # Bytes that look random and are always the same.
  defp bytes(size) do
    {bytes, _} = :rand.bytes_s(size, :rand.seed_s(:exsss, 1))
    bytes
  end

  defp key(n) when rem(n, 3) == 0, do: n
  defp key(n) when rem(n, 3) == 1, do: "key #{n}"
  defp key(n), do: {:key, n * 1.0}

  defp make_ref_of_this_test do
    Process.get(:reference) || make_ref() |> tap(&Process.put(:reference, &1))
  end

  # As the external term format may have them. The VM's own hash of such a one differs from call to
  # call, and what follows one without a number it reads as something else: here as a tuple of more
  # elements than there is memory.
  test "references of other nodes with one number or none", context do
    registry =
      start_supervised!({GenRegistry, worker_module: IdleWorker, name: context.test}) &&
        context.test

    _ = :a@b
    one = <<131, 101, 119, 3, "a@b", 7::32, 1>>
    none = <<131, 90, 0::16, 119, 3, "a@b", 7::32>>

    for external <- [one, none],
        wrap <- [
          & &1,
          &{&1},
          &[1, &1],
          &%{key: &1},
          &Terms.closure/1,
          &Terms.closure({&1, 0x01010169, "other"}),
          &Terms.nest(&1, :tuple, 40)
        ] do
      id = fn -> wrap.(:erlang.binary_to_term(external)) end
      {:ok, pid} = GenRegistry.start(registry, id.())

      # What lies behind it on the heap is another thing each time.
      for other <- [1, {1, 2}, [1, 2, 3], "abc", 1.5, %{a: 1}] do
        assert {[GenRegistry.lookup_or_start(registry, id.()), other], other} ==
                 {[{:ok, pid}, other], other}
      end

      assert GenRegistry.count(registry) == 1
      assert GenRegistry.stop(registry, id.()) == :ok
      assert GenRegistry.lookup_id(registry, pid) in [{:ok, id.()}, {:error, :not_found}]
    end
  end

  # Of these, a map of the VM with more than 32 keys cannot take the first two, and takes the others for
  # two, though they may be `===`.
  test "references of other nodes with more numbers than usual, while many are in flight",
       context do
    _ = :a@b

    reference = fn numbers ->
      words = for number <- numbers, into: <<>>, do: <<number::32>>

      :erlang.binary_to_term(
        <<131, 90, length(numbers)::16, 119, 3, "a@b", 7::32, words::binary>>
      )
    end

    name = context.test
    start_supervised!({GenRegistry, worker_module: FunWorker, name: name, max_starting: 200})
    ids = Enum.to_list(1..50) ++ Enum.map([[1, 2, 3], [1, 2, 3, 4, 5], [1], [1, 0]], reference)
    test = self()

    starts =
      for id <- ids do
        Task.async(fn ->
          start_link = fn ->
            send(test, {:starting, self()})
            receive(do: (:go_on -> IdleWorker.start_link()))
          end

          GenRegistry.lookup_or_start(name, id, [start_link])
        end)
      end

    different = ids |> Enum.uniq_by(&:erlang.term_to_binary/1) |> length()
    same = if reference.([1]) === reference.([1, 0]), do: 1, else: 0
    starters = for _ <- 1..(different - same), do: assert_receive({:starting, pid}, 5_000) && pid
    assert GenRegistry.info(name).starting == different - same
    for pid <- starters, do: send(pid, :go_on)
    pids = for {:ok, pid} <- Task.await_many(starts), uniq: true, do: pid
    assert length(pids) == different - same
    assert GenRegistry.count(name) == different - same

    stops = for id <- ids, do: Task.async(fn -> GenRegistry.stop(name, id) end)
    assert Enum.count(Task.await_many(stops), &(&1 == :ok)) >= different - same
    assert GenRegistry.count(name) == 0
  end
end
