defmodule Zoo do
  @moduledoc """
  At least one term of every kind that this OTP can make, and the containers that terms can be in.

  A maker that this OTP has no functions for is left out. The terms live as long as the process that
  made them: tables, ports and timers belong to it.
  """

  import Bitwise

  @doc "`[{name, term}]`, always in the same order."
  def terms do
    for {name, make} <-
          List.flatten([numbers(), atoms(), binaries(), funs(), references()] ++ rest()),
        {:ok, term} <- [attempt(make)],
        do: {name, term}
  end

  defp rest, do: [processes(), collections(), records(), handles()]

  # Only what is missing is missing: a maker that fails otherwise is a mistake in here.
  defp attempt(make) do
    {:ok, make.()}
  rescue
    UndefinedFunctionError -> :not_offered
  catch
    :not_offered -> :not_offered
  end

  @doc "`[{name, fun}]`: each puts a term into a container."
  def containers do
    large = Map.new(1..100, &{&1, &1})

    [
      {"alone", & &1},
      {"in a tuple", &{&1}},
      {"second in a pair", &{:user, &1}},
      {"in a tuple of 20", &List.to_tuple([&1 | Enum.to_list(1..19)])},
      {"in a list", &[1, &1]},
      {"as a tail", &[1 | &1]},
      {"as a key", &%{&1 => 1}},
      {"as a value", &%{1 => &1}},
      {"as a key of a large map", &Map.put(large, &1, 1)},
      {"as a value of a large map", &Map.put(large, 1, &1)},
      {"in a fun", &Terms.closure/1},
      {"under 40 tuples", &Terms.nest(&1, :tuple, 40)},
      {"under 40 lists", &Terms.nest(&1, :list, 40)},
      {"under 40 maps", &Terms.nest(&1, :map, 40)},
      {"under 40 keys", &Terms.nest(&1, :key, 40)},
      # So large that a dirty scheduler looks at it.
      {"beside 100 KB", &{:binary.copy("x", 100_000), &1}}
    ]
  end

  @kinds [:is_number, :is_atom, :is_bitstring, :is_tuple, :is_list, :is_map, :is_function] ++
           [:is_pid, :is_port, :is_reference]

  @doc "What the VM calls a term's kind, as far as it knows it: for native records, it aborts."
  def kind(term) do
    if Enum.any?(@kinds, &apply(:erlang, &1, [term])),
      do: :erts_internal.term_type(term),
      else: :unknown
  end

  ## Kinds

  defp numbers do
    # Where what a number takes changes, for the VM or for the table; and more than 2,040 bits, which
    # do not fit into one byte of the external term format's shorter form.
    bits =
      [0, 1, 7, 8, 27, 28, 31, 32, 58, 59, 60, 61, 63, 64, 65, 127, 128, 129, 256] ++
        [1_000, 2_039, 2_040, 2_041, 4_096, 65_536]

    floats =
      for bits <- [
            0,
            1 <<< 63,
            1,
            1 <<< 52,
            0x3FF0000000000000,
            0x7FEFFFFFFFFFFFFF,
            0xC340000000000000
          ] do
        <<float::float>> = <<bits::64>>
        {"float #{float}, #{Integer.to_string(bits, 16)}", fn -> float end}
      end

    integers =
      for bits <- bits,
          {sign, factor} <- [{"", 1}, {"-", -1}],
          {more, add} <- [{"", 0}, {" - 1", -1}] do
        {"#{sign}(2^#{bits}#{more})", fn -> factor * ((1 <<< bits) + add) end}
      end

    [integers, floats, {"trunc of a float", fn -> trunc(-576_460_752_303_423_488.0) end}]
  end

  defp atoms do
    for atom <- [
          :a,
          nil,
          true,
          :"",
          :nonode@nohost,
          :Ω,
          String.to_atom(String.duplicate("Ω", 255))
        ],
        do: {"atom #{String.slice(inspect(atom), 0, 20)}", fn -> atom end}
  end

  defp binaries do
    sizes = [0, 1, 7, 8, 9, 16, 48, 49, 63, 64, 65, 255, 256, 65_535, 65_536, 65_537, 1_000_000]
    whole = :binary.copy(<<1, 2, 3, 4, 5, 6, 7, 8>>, 20_000)

    [
      for(size <- sizes, do: {"binary of #{size}", fn -> :binary.copy("x", size) end}),
      for size <- [0, 1, 63, 64, 65, 1_000, 70_000], at <- [0, 1] do
        {"#{size} bytes from #{at} of a larger one", fn -> binary_part(whole, at, size) end}
      end,
      for bits <- [1, 7, 9, 63, 65, 511, 513, 8_001, 800_001], from <- [0, 3] do
        {"#{bits} bits from bit #{from}",
         fn ->
           # The sizes in it, because they must be pinned from OTP 29's Elixir on, and not before.
           <<from::8, bits::32, _::size(from), some::bitstring-size(bits), _::bitstring>> =
             <<from::8, bits::32, whole::binary>>

           some
         end}
      end,
      {"bits of their own", fn -> <<5::3>> end},
      {"a binary not on a byte's border",
       fn -> Terms.part("a binary not on a byte's border") end},
      # With room behind it, for what is appended next.
      {"an appended binary", fn -> Enum.reduce(1..100, <<>>, &<<&2::binary, &1>>) end},
      {"appended bits", fn -> Enum.reduce(1..100, <<>>, &<<&2::bitstring, &1::3>>) end},
      {"what is left of a match", fn -> left_of_match(whole) end},
      {"what was compressed", fn -> :zlib.compress(whole) end}
    ]
  end

  # The compiler keeps one match context throughout, and makes a binary of it at the end.
  defp left_of_match(<<1, rest::binary>>), do: left_of_match(rest)
  defp left_of_match(<<2, rest::binary>>), do: rest

  defp funs do
    [
      {"fun without environment", fn -> fn -> :ok end end},
      {"fun with a number", fn -> Terms.closure(1) end},
      {"fun with a large environment", fn -> Terms.closure(Enum.to_list(1..1_000)) end},
      {"fun with a fun", fn -> Terms.closure(Terms.other_closure("a")) end},
      {"function of a module", fn -> &String.length/1 end},
      {"function of a module that is not there", fn -> :erlang.make_fun(:no_module, :f, 3) end},
      {"built-in function", fn -> &:erlang.self/0 end},
      {"fun of a module that is not there",
       fn -> foreign_fun("Elixir.Terms", "Elixir.Nowhe") end},
      {"evaluated fun", fn -> elem(Code.eval_string("a = 1; fn b -> a + b end"), 0) end}
    ]
  end

  # Of the same length, so that the lengths around the name stay right.
  defp foreign_fun(module, other) do
    Terms.closure(1)
    |> :erlang.term_to_binary()
    |> :binary.replace(module, other)
    |> :erlang.binary_to_term()
  end

  defp references do
    [
      {"reference", fn -> make_ref() end},
      {"alias", fn -> :erlang.alias() end},
      {"alias that is none any more", fn -> tap(:erlang.alias(), &:erlang.unalias/1) end},
      {"alias with priority", fn -> known(fn -> :erlang.alias([:priority]) end) end},
      {"monitor", fn -> Process.monitor(self()) end},
      {"monitor with alias", fn -> :erlang.monitor(:process, idle(), alias: :demonitor) end},
      {"timer", fn -> :erlang.start_timer(100_000_000, self(), :never) end},
      {"asked for a spawn", fn -> :erlang.spawn_request(fn -> :ok end, [{:reply, :no}]) end},
      {"of this node, which it has not made", fn -> reference(node(), 0, [1, 2, 3]) end},
      {"of an earlier life of this node", fn -> reference(node(), 77, [1, 2, 3]) end},
      # Not of one: for such a one the VM hashes what lies behind it, and ETS does not find it again.
      for(
        words <- 2..5,
        do: {"of #{words} words", fn -> reference(:other@nowhere, 7, Enum.to_list(1..words)) end}
      ),
      # Magic ones, which hold what they refer to.
      {"table of ETS", fn -> :ets.new(:zoo, []) end},
      {"atomics", fn -> :atomics.new(1, []) end},
      {"large atomics", fn -> :atomics.new(100_000, []) end},
      {"counters", fn -> :counters.new(1, []) end},
      {"counters for writes", fn -> :counters.new(1, [:write_concurrency]) end},
      {"compiled match specification", fn -> :ets.match_spec_compile([{:_, [], [:ok]}]) end},
      {"session of traces", fn -> apply(:trace, :session_create, [:zoo, self(), []]) end},
      {"copied table", fn -> Terms.copy(:ets.new(:zoo, [])) end},
      {"copied atomics, which are gone", fn -> gone_atomics() end}
    ]
  end

  # An equal reference to what is freed: it refers to nothing any more.
  defp gone_atomics,
    do: Terms.copy(Task.await(Task.async(fn -> Terms.copy(:atomics.new(1, [])) end)))

  # As many words as this OTP knows of.
  defp reference(node, creation, words) do
    node = Atom.to_string(node)
    ids = for word <- words, into: <<>>, do: <<word::32>>
    head = <<131, 90, length(words)::16, 119, byte_size(node), node::binary, creation::32>>
    known(fn -> :erlang.binary_to_term(head <> ids) end)
  end

  # What an OTP that does not know it refuses.
  defp known(make) do
    make.()
  rescue
    ArgumentError -> throw(:not_offered)
  end

  defp processes do
    [
      {"process", fn -> spawn_link(&refuse_calls/0) end},
      {"process that is gone", fn -> gone() end},
      {"process that there was never", fn -> :erlang.list_to_pid(~c"<0.32000.100>") end},
      {"process of another node", fn -> Terms.external_pid() end},
      {"process of an earlier life of this node", fn -> pid(node(), 77) end},
      {"port", fn -> hd(Port.list()) end},
      {"port of another node", fn -> Terms.external_port() end},
      {"port of 64 bits", fn -> port(1 <<< 40) end}
    ]
  end

  defp pid(node, creation) do
    node = Atom.to_string(node)

    :erlang.binary_to_term(
      <<131, 88, 119, byte_size(node), node::binary, 5::32, 0::32, creation::32>>
    )
  end

  defp port(number) do
    :erlang.binary_to_term(<<131, 120, 119, 13, "other@nowhere", number::64, 7::32>>)
  end

  defp gone do
    {pid, monitor} = spawn_monitor(fn -> :ok end)
    receive do: ({:DOWN, ^monitor, _, _, _} -> pid)
  end

  # Who takes it for a registry shall not wait for ever.
  defp refuse_calls do
    receive do
      {:"$gen_call", from, _} -> GenServer.reply(from, :no_registry)
      _ -> :ok
    end

    refuse_calls()
  end

  @doc "A process that does nothing, and ends with the one that asked for it."
  def idle, do: elem(IdleWorker.start_link(), 1)

  defp collections do
    improper = Enum.to_list(1..100) ++ :improper

    [
      for(
        size <- [0, 1, 2, 8, 255, 256, 100_000],
        do: {"tuple of #{size}", fn -> Tuple.duplicate(1, size) end}
      ),
      # Up to 32 pairs the VM has them in order, then in a tree.
      for(
        size <- [0, 1, 31, 32, 33, 34, 1_000, 2_000],
        do: {"map of #{size}", fn -> Map.new(0..size//1, &{&1, "#{&1}"}) end}
      ),
      {"map with keys of every kind of number",
       fn -> %{0 => 1, 0.0 => 2, (1 <<< 64) => 3, Terms.negative_zero() => 4} end},
      {"struct", fn -> 1..3 end},
      {"nil", fn -> [] end},
      {"improper list", fn -> improper end},
      {"list of a list", fn -> [[]] end},
      {"text", fn -> ~c"a text" end},
      {"long list", fn -> Enum.to_list(1..100_000) end},
      {"literal", fn -> {:literal, [1, %{a: "b"}]} end},
      {"literal of the VM", fn -> persistent({:zoo, [1.5, 1 <<< 70, "text"]}) end},
      for kind <- [:tuple, :pair, :list, :tail, :map, :key], levels <- [31, 32, 33, 1_000] do
        {"#{levels} of #{kind}", fn -> Terms.nest(1, kind, levels) end}
      end,
      # A few words that are 2^14 when nothing is shared.
      {"shared", fn -> Enum.reduce(1..13, 1.5, fn _, term -> {term, term} end) end}
    ]
  end

  defp persistent(term) do
    :persistent_term.put(Zoo, term)
    :persistent_term.get(Zoo)
  end

  # What OTP 29 has added. Other compilers do not know the syntax.
  defp records do
    [
      {"native record", fn -> record(:make, [1, 2]) end},
      {"native record with other values", fn -> record(:make, ["a", [1.5]]) end},
      {"native record with all kinds of numbers", fn -> record(:make, [2 ** 70, -1.5]) end},
      {"native record in another", fn -> record(:make, [record(:make, [1, 2]), []]) end},
      {"native record with a large list",
       fn -> record(:make, [Enum.to_list(1..20_000), %{}]) end},
      {"native record without fields", fn -> record(:empty, []) end},
      {"native record that was copied", fn -> Terms.copy(record(:make, [1, 2])) end}
    ]
  end

  defp record(function, args) do
    unless :code.is_loaded(:zoo_records), do: compile_records()
    apply(:zoo_records, function, args)
  end

  @records """
  -module(zoo_records).
  -export([make/2, empty/0]).
  -record #pt{x, y}.
  -record #none{}.
  make(X, Y) -> #pt{x = X, y = Y}.
  empty() -> #none{}.
  """

  defp compile_records do
    {:ok, tokens, _} = :erl_scan.string(to_charlist(@records))

    with {:ok, forms} <- parse(tokens, [], []),
         {:ok, module, code} <- :compile.forms(forms),
         do: {:module, _} = :code.load_binary(module, ~c"zoo", code),
         else: (_ -> throw(:not_offered))
  end

  defp parse([], [], forms), do: {:ok, Enum.reverse(forms)}

  defp parse([{:dot, _} = dot | rest], form, forms) do
    with {:ok, form} <- :erl_parse.parse_form(Enum.reverse([dot | form])),
         do: parse(rest, [], [form | forms])
  end

  defp parse([token | rest], form, forms), do: parse(rest, [token | form], forms)

  # What modules of OTP hand out, with resources of the VM's own NIFs.
  defp handles do
    [
      {"raw file", fn -> elem(:file.open("/dev/null", [:raw, :read]), 1) end},
      {"stream of zlib", fn -> :zlib.open() end},
      {"regular expression", fn -> elem(:re.compile("a+"), 1) end},
      {"socket", fn -> elem(:socket.open(:inet, :stream), 1) end},
      {"iterator of processes", fn -> apply(:erlang, :processes_iterator, []) end},
      {"iterator of a map", fn -> :maps.iterator(Map.new(1..40, &{&1, &1})) end},
      {"table of a registry", fn -> GenRegistry.Table.open(registered(), :infinity) end}
    ]
  end

  # A table is its process's, which has the table's name.
  defp registered do
    unless Process.whereis(Zoo), do: Process.register(self(), Zoo)
    Zoo
  end
end
