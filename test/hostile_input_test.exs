defmodule GenRegistry.HostileInputTest do
  @moduledoc """
  Bad arguments for every function, and bad messages for a registry's process: each has its error,
  and the registry serves on.

  A row is `{module, function, arguments, expected}`. What is public and has no row is missed, and so
  is a function of the NIF. `script/check hostile_input` counts the rows.
  """

  use ExUnit.Case

  @moduletag :capture_log

  setup_all do
    cases = :counters.new(1, [])
    on_exit(fn -> IO.puts("\nhostile input: #{:counters.get(cases, 1)} cases") end)
    {:ok, cases: cases}
  end

  setup %{test: test} do
    # What is linked to the test by a bad start, and fails.
    Process.flag(:trap_exit, true)
    name = Module.concat(__MODULE__, test)
    server = start_supervised!({GenRegistry, worker_module: IdleWorker, name: name})
    {:ok, resident} = GenRegistry.start(name, :resident)
    closed = Module.concat(name, Closed)
    start_supervised!({GenRegistry, worker_module: IdleWorker, name: closed})
    {:ok, _} = GenRegistry.start(closed, :resident)
    closed_table = :sys.get_state(closed).table
    stop_supervised!(closed)
    {dead, monitor} = spawn_monitor(fn -> :ok end)
    assert_receive {:DOWN, ^monitor, _, _, _}

    {:ok,
     name: name,
     server: server,
     resident: resident,
     table: :sys.get_state(server).table,
     closed: closed,
     closed_table: closed_table,
     dead: dead}
  end

  # The application's modules that have documentation, and the NIF's.
  test "every function has rows", context do
    {:ok, modules} = :application.get_key(:gen_registry, :modules)

    functions =
      for module <- modules, checked?(module), function <- functions(module), do: function

    rows =
      for rows <- [rows(context), enormous_rows(context), nif_rows(context)],
          {module, function, args, _} <- rows,
          do: {module, function, length(args)}

    assert [{GenRegistry, _, _} | _] = functions
    assert functions -- rows == []
  end

  defp checked?(GenRegistry.Native), do: true

  defp checked?(module) do
    String.starts_with?(inspect(module), "GenRegistry") and
      not String.ends_with?(inspect(module), "Test") and
      match?({:docs_v1, _, _, _, %{}, _, _}, Code.fetch_docs(module))
  end

  # `load` is the VM's to call.
  defp functions(module) do
    for {function, arity} <- module.__info__(:functions), function != :load do
      {module, function, arity}
    end
  end

  test("bad arguments", context, do: run(rows(context), context))
  test("enormous ids", context, do: run(enormous_rows(context), context))
  test("bad arguments for the NIF", context, do: run(nif_rows(context), context))

  test "bad messages", context do
    for message <- messages(context) do
      :counters.add(context.cases, 1, 1)
      send(context.name, message)
      assert_serves(context, "after #{inspect(message)}")
    end
  end

  defp run(rows, context) do
    for {module, function, args, expected} <- rows do
      :counters.add(context.cases, 1, 1)
      what = "#{inspect(module)}.#{function}(#{args |> Enum.map_join(", ", &show/1)})"

      outcome =
        try do
          {:answer, apply(module, function, args)}
        catch
          :error, error -> {:error, Exception.normalize(:error, error, __STACKTRACE__)}
          kind, reason -> {kind, reason}
        end

      # In words only: what ExUnit is told of a failure is copied, and some of this would have no
      # room.
      unless expected?(expected, outcome), do: flunk("#{what} has the outcome #{show(outcome)}")
      assert_serves(context, "after #{what}")
    end
  end

  # In digits, a number can take minutes.
  defp show(number) when is_integer(number) and abs(number) > 1.0e100, do: "a large integer"

  # Of a native record, Elixir shows all, however much that is.
  defp show(term) do
    if record_near?(term, 5),
      do: "a native record, or one in something else",
      else: inspect(term, limit: 8, printable_limit: 60)
  end

  defp record_near?(_term, 0), do: false
  defp record_near?([head | tail], depth), do: near?([head, tail], depth)
  defp record_near?(map, depth) when is_map(map), do: near?(Enum.concat(pairs(map)), depth)
  defp record_near?(tuple, depth) when is_tuple(tuple), do: near?(Tuple.to_list(tuple), depth)
  defp record_near?(term, _depth), do: Zoo.kind(term) == :unknown

  defp near?(terms, depth), do: terms |> Enum.take(8) |> Enum.any?(&record_near?(&1, depth - 1))

  defp pairs(map), do: for({key, value} <- Map.to_list(map), do: [key, value])

  defp expected?({:raises, module, part}, {:error, %module{} = error}) do
    Exception.message(error) =~ part
  end

  defp expected?({:exits, reason}, {:exit, {reason, {GenServer, :call, _}}}), do: true
  defp expected?({:exits, reason}, {:exit, {{reason, _}, {GenServer, :call, _}}}), do: true
  defp expected?({:exits, reason}, {:exit, {reason, {GenRegistry, _, _}}}), do: true
  defp expected?({:exits, reason}, {:exit, {{reason, _}, {GenRegistry, _, _}}}), do: true

  defp expected?({:answers, answer?}, {:answer, answer}) when is_function(answer?),
    do: answer?.(answer)

  defp expected?({:answers, answer}, {:answer, answer}), do: true
  defp expected?({:is, check}, outcome), do: check.(outcome)
  defp expected?(_, _), do: false

  # As it did before, by the same process.
  defp assert_serves(%{name: name, server: server, resident: resident}, at) do
    serves? =
      Process.whereis(name) == server and
        GenRegistry.lookup(name, :resident) == {:ok, resident} and
        match?({:ok, _}, GenRegistry.start(name, :visitor)) and
        GenRegistry.count(name) == 2 and
        GenRegistry.stop(name, :visitor) == :ok and
        GenRegistry.to_list(name) == [resident: resident] and
        Process.alive?(resident)

    unless serves?, do: flunk("the registry does not serve as before #{at}")
  end

  ## What is no registry, no timeout, ...

  defp no_names(context) do
    [
      nil,
      true,
      :undefined,
      :"",
      :nobody_has_this_name,
      context.closed,
      :logger,
      {context.name, node()},
      context.server,
      self() | no_servers(context)
    ] ++ [context.dead, Terms.external_pid()]
  end

  defp no_servers(context) do
    [
      "name",
      ~c"name",
      0,
      -1,
      2 ** 70,
      1.5,
      [],
      {},
      {context.name},
      {context.name, "node"},
      {"name", node()},
      {context.name, node(), 1},
      [context.name],
      [context.name | node()],
      %{name: context.name},
      <<1::3>>,
      make_ref(),
      context.table,
      hd(Port.list()),
      Terms.external_port(),
      fn -> context.name end
    ]
  end

  @no_timeouts [
    -1,
    1.5,
    2 ** 32,
    2 ** 70,
    -(2 ** 70),
    nil,
    :inf,
    :undefined,
    "5",
    [],
    {1},
    [5 | 5]
  ]
  @no_args [nil, :arg, "arg", 1, {}, {1}, %{}, [1 | 2], [[] | :arg]]
  @no_options [nil, :name, "name", 1, {:name, R}, %{name: R}, [:name], [1], [{"name", R}]] ++
                [[{:name, R} | :improper], [{:name, R, 1}], [[name: R]]]
  @no_registry_names [nil, true, false, :undefined, "name", ~c"name", 1, {:global, R}, %{}, [R]] ++
                       [{:via, Registry, {R, 1}}, self()]

  ## Rows

  defp rows(context) do
    Enum.concat([
      specs(),
      starts_of_registries(context),
      reads(context),
      starts(context),
      requests(context),
      stops(context),
      names(context)
    ])
  end

  defp specs do
    no_options = {:raises, ArgumentError, "the options must be a keyword list, got: "}

    List.flatten([
      for opts <- @no_options do
        [
          {GenRegistry, :child_spec, [opts], no_options},
          {GenRegistry.Spec, :child_spec, [IdleWorker, opts], no_options},
          {GenRegistry, :start_link, [IdleWorker, opts], no_options}
        ]
      end,
      {GenRegistry, :child_spec, [[]], {:raises, KeyError, "worker_module"}},
      {GenRegistry, :child_spec, [[name: R]], {:raises, KeyError, "worker_module"}},
      # Only a supervisor's start of it tells that this is no module, as with all child specs.
      {GenRegistry.Spec, :child_spec, ["no module"],
       {:is, &match?({:answer, {"no module", {GenRegistry, :start_link, _}, _, _, _, _}}, &1)}}
    ])
  end

  defp starts_of_registries(context) do
    option = fn option, values, part ->
      for value <- values do
        opts = Keyword.put_new([{option, value}], :name, Module.concat(context.name, Never))
        {GenRegistry, :start_link, [IdleWorker, opts], {:raises, ArgumentError, part}}
      end
    end

    List.flatten([
      for module <- ["IdleWorker", 1, {IdleWorker, []}, [IdleWorker], %{}, fn -> IdleWorker end] do
        {GenRegistry, :start_link, [module],
         {:raises, ArgumentError, "the worker module must be"}}
      end,
      {GenRegistry, :start_link, [nil],
       {:raises, ArgumentError, "the name of a registry must be"}},
      option.(:name, @no_registry_names, "the name of a registry must be an atom, got: "),
      option.(
        :max_children,
        [-1, 1.5, :many, nil, "1", [1]],
        ":max_children must be a number of workers or :infinity, got: "
      ),
      option.(
        :max_starting,
        [0, -1, 1.5, :infinity, nil, "1"],
        ":max_starting must be a positive"
      ),
      option.(
        :worker_shutdown,
        List.delete(@no_timeouts, :infinity),
        ":worker_shutdown must be a"
      ),
      # GenServer's own.
      option.(:spawn_opt, [:link, 1, [:no_such_option]], ""),
      {GenRegistry, :start_link, [IdleWorker, [name: context.name]],
       {:answers, {:error, {:already_started, context.server}}}}
    ])
  end

  defp reads(context) do
    sum = fn {_, _}, sum -> sum + 1 end
    reads = [lookup: [:resident], count: [], sample: [], reduce: [0, sum], to_list: []]
    reads = reads ++ [lookup_many: [[:resident]], lookup_id: [context.resident]]

    # It reads when it is gone through.
    no_streams =
      for name <- no_names(context) do
        raises? = fn {:answer, stream} ->
          error = catch_error(Enum.to_list(stream))
          is_struct(error, ArgumentError) and error.message =~ "unknown registry"
        end

        {GenRegistry, :stream, [name], {:is, raises?}}
      end

    no_lists =
      for ids <- [nil, :id, 1, "ids", %{}, {1}, 1..2, [1 | 2], [:resident | :resident]] do
        part = "the ids must be a list, got: "
        {GenRegistry, :lookup_many, [context.name, ids], {:raises, ArgumentError, part}}
      end

    no_pids =
      for pid <- [nil, :pid, 0, "pid", [self()], make_ref(), hd(Port.list()), context.name] do
        part = "the process must be a pid, got: "
        {GenRegistry, :lookup_id, [context.name, pid], {:raises, ArgumentError, part}}
      end

    no_workers =
      for pid <- [context.dead, context.server, self(), Terms.external_pid()] do
        {GenRegistry, :lookup_id, [context.name, pid], {:answers, {:error, :not_found}}}
      end

    no_registry =
      for name <- no_names(context), {function, args} <- reads do
        part = "unknown registry: #{inspect(name)}"
        {GenRegistry, function, [name | args], {:raises, ArgumentError, part}}
      end

    no_reducer =
      for fun <- [nil, :fun, "fun", {Kernel, :+}, &Kernel.-/1, fn -> 1 end, &max(&1, &2 + &3)] do
        part = "the reducer must be a function of two arguments, got: "
        {GenRegistry, :reduce, [context.name, 0, fun], {:raises, ArgumentError, part}}
      end

    reduce = fn fun -> [context.name, 0, fun] end

    failing = [
      {GenRegistry, :reduce, reduce.(fn _, _ -> raise "no" end), {:raises, RuntimeError, "no"}},
      {GenRegistry, :reduce, reduce.(fn _, _ -> throw(:no) end), {:is, &(&1 == {:throw, :no})}},
      {GenRegistry, :reduce, reduce.(fn _, _ -> exit(:no) end), {:is, &(&1 == {:exit, :no})}},
      {GenRegistry, :reduce, reduce.(fn [], _ -> 1 end),
       {:raises, FunctionClauseError, "no func"}},
      # What it does to the registry meanwhile.
      {GenRegistry, :reduce, reduce.(fn _, _ -> GenRegistry.stop(context.name, :none) end),
       {:answers, {:error, :not_found}}}
    ]

    Enum.concat([no_registry, no_reducer, failing, no_streams, no_lists, no_pids, no_workers])
  end

  defp starts(context) do
    %{name: name, server: server, resident: resident, dead: dead} = context

    rows = fn function, servers, rest, expected ->
      for server <- servers, do: {GenRegistry, function, [server, :id | rest], expected}
    end

    no_server =
      {:raises, ArgumentError, "the registry must be a name, a pid or {name, node}, got"}

    no_args = {:raises, ArgumentError, "the args must be a list of arguments for start_link, got"}
    no_timeout = {:raises, ArgumentError, "the timeout must be a number of milliseconds"}
    unknown = [nil, true, :undefined, :nobody_has_this_name, context.closed, :logger]

    for function <- [:lookup_or_start, :start, :replace], reduce: [] do
      all ->
        [
          rows.(function, no_servers(context), [], no_server),
          rows.(function, unknown, [], {:raises, ArgumentError, "unknown registry: "}),
          rows.(function, [dead, {:nobody_has_this_name, node()}], [], {:exits, :noproc}),
          rows.(
            function,
            [Terms.external_pid(), {name, :other@nowhere}],
            [],
            {:exits, :nodedown}
          ),
          rows.(function, [self()], [], {:exits, :calling_self}),
          for args <- @no_args, server <- [name, server, {name, node()}] do
            {GenRegistry, function, [server, :id, args], no_args}
          end,
          for timeout <- @no_timeouts, server <- [name, server] do
            {GenRegistry, function, [server, :id, [], timeout], no_timeout}
          end,
          # More than its `start_link` takes.
          {GenRegistry, function, [name, :id, [1, 2, 3]],
           {:is, &match?({:answer, {:error, {%UndefinedFunctionError{}, [_ | _]}}}, &1)}}
          | all
        ]
    end
    |> List.flatten()
    |> Enum.concat([
      {GenRegistry, :lookup_or_start, [name, :resident, [], 2 ** 32 - 1],
       {:answers, {:ok, resident}}},
      {GenRegistry, :start, [server, :resident, [], 2 ** 32 - 1],
       {:answers, {:error, {:already_started, resident}}}}
    ])
  end

  defp requests(context) do
    %{name: name, server: server, dead: dead} = context

    no_server =
      {:raises, ArgumentError, "the registry must be a name, a pid or {name, node}, got"}

    no_options = {:raises, ArgumentError, "the options must be a keyword list, got: "}
    unknown_option = {:raises, ArgumentError, "unknown keys"}
    no_args = {:raises, ArgumentError, "the args must be a list of arguments for start_link, got"}
    no_timeout = {:raises, ArgumentError, "the timeout must be a number of milliseconds"}
    unknown = [nil, true, :undefined, :nobody_has_this_name, context.closed, :logger]
    unknown = unknown ++ [{:nobody_has_this_name, node()}, {context.closed, node()}]
    # More than its `start_link` takes.
    args = [args: [1, 2, 3], timeout: 2 ** 32 - 1]

    List.flatten([
      for function <- [:call, :cast] do
        row = fn server, opts, expected ->
          {GenRegistry, function, [server, :id, :request, opts], expected}
        end

        [
          for(bad <- no_servers(context), do: row.(bad, [], no_server)),
          for bad <- unknown do
            {GenRegistry, function, [bad, :id, :request],
             {:raises, ArgumentError, "unknown registry: "}}
          end,
          for bad <- [Terms.external_pid(), {name, :other@nowhere}] do
            row.(bad, [], {:exits, :nodedown})
          end,
          row.(dead, [], {:exits, :noproc}),
          row.(self(), [], {:exits, :calling_self}),
          for server <- [name, server, {name, node()}] do
            [
              for(opts <- @no_options, do: row.(server, opts, no_options)),
              for(
                opts <- [[name: R], [timeout: 1, arg: []]],
                do: row.(server, opts, unknown_option)
              ),
              for(args <- @no_args, do: row.(server, [args: args], no_args)),
              for(timeout <- @no_timeouts, do: row.(server, [timeout: timeout], no_timeout))
            ]
          end
        ]
      end,
      {GenRegistry, :call, [name, :id, :request, args], {:exits, :start_failed}},
      {GenRegistry, :cast, [name, :id, :request, args],
       {:is, &match?({:answer, {:error, {%UndefinedFunctionError{}, [_ | _]}}}, &1)}},
      # It reads nothing.
      {GenRegistry, :call, [name, :resident, :request, [timeout: 0]], {:exits, :timeout}},
      {GenRegistry, :cast, [name, :resident, :request, [timeout: 0]], {:answers, :ok}},
      {GenRegistry, :registries, [], {:is, fn {:answer, names} -> name in names end}}
    ])
  end

  defp stops(context) do
    %{name: name, server: server, dead: dead} = context

    no_server =
      {:raises, ArgumentError, "the registry must be a name, a pid or {name, node}, got"}

    no_timeout = {:raises, ArgumentError, "the timeout must be a number of milliseconds"}
    no_process = [nil, true, :undefined, :nobody_has_this_name, context.closed]
    unknown = {:raises, ArgumentError, "unknown registry: "}

    List.flatten([
      for(server <- no_servers(context), do: {GenRegistry, :stop, [server, :id], no_server}),
      for(server <- no_servers(context), do: {GenRegistry, :info, [server], no_server}),
      for timeout <- @no_timeouts, server <- [name, server] do
        {GenRegistry, :stop, [server, :id, timeout], no_timeout}
      end,
      for(server <- no_servers(context), do: {GenRegistry, :await, [server, :id], no_server}),
      for timeout <- @no_timeouts, server <- [name, server] do
        {GenRegistry, :await, [server, :id, timeout], no_timeout}
      end,
      for unknown <- [nil, :nobody_has_this_name, context.closed, :logger] do
        {GenRegistry, :await, [unknown, :id], {:raises, ArgumentError, "unknown registry: "}}
      end,
      for(
        at <- [dead, {:nobody_has_this_name, node()}],
        do:
          {GenRegistry, :await, [at, :id],
           {:is, &match?({:exit, {:noproc, {GenRegistry, :await, _}}}, &1)}}
      ),
      {GenRegistry, :await, [name, :none, 0],
       {:is, &match?({:exit, {:timeout, {GenRegistry, :await, _}}}, &1)}},
      {GenRegistry, :await, [server, :resident, 2 ** 32 - 1],
       {:answers, {:ok, context.resident}}},
      for(server <- no_process, do: {GenRegistry, :stop, [server, :id], unknown}),
      for(server <- no_process, do: {GenRegistry, :info, [server], unknown}),
      for server <- [dead, {:nobody_has_this_name, node()}] do
        [
          {GenRegistry, :stop, [server, :id], {:exits, :noproc}},
          {GenRegistry, :info, [server], {:exits, :noproc}}
        ]
      end,
      for server <- [Terms.external_pid(), {name, :other@nowhere}] do
        [
          {GenRegistry, :await, [server, :id, 1_000],
           {:is, &match?({:exit, {{:nodedown, _}, {GenRegistry, :await, _}}}, &1)}},
          {GenRegistry, :stop, [server, :id, 1_000], {:exits, :nodedown}},
          {GenRegistry, :info, [server], {:exits, :nodedown}}
        ]
      end,
      # Without `:telemetry`, which is not here.
      {GenRegistry.Telemetry, :present?, [], {:answers, false}},
      {GenRegistry.Telemetry, :metadata, [R, M], {:answers, %{registry: R, worker_module: M}}},
      {GenRegistry.Telemetry, :execute, [[:exit], %{}, %{}], {:answers, :ok}},
      for id <- [:none, nil, "resident", [:resident], {:resident}, dead, Terms.external_pid()] do
        {GenRegistry, :stop, [name, id, 2 ** 32 - 1], {:answers, {:error, :not_found}}}
      end
    ])
  end

  defp names(context) do
    %{name: name, resident: resident, dead: dead} = context
    functions = [whereis_name: [], send: [:message], register_name: [self()], unregister_name: []]
    {atoms, others} = Enum.split_with(no_names(context), &is_atom/1)
    no_name = {:raises, ArgumentError, "the name must be {registry, id}"}
    no_pid = {:raises, ArgumentError, "the process must be a pid of this node, got: "}

    List.flatten([
      for {function, args} <- functions do
        [
          for(other <- others, do: {GenRegistry, function, [{other, :id} | args], no_name}),
          for term <- [
                name,
                {},
                {name},
                {name, 1, 2},
                [name, :id],
                {:via, GenRegistry, {name, 1}}
              ] do
            {GenRegistry, function, [term | args], no_name}
          end,
          for atom <- atoms do
            part = "unknown registry: #{inspect(atom)}"
            {GenRegistry, function, [{atom, :id} | args], {:raises, ArgumentError, part}}
          end
        ]
      end,
      for pid <- [nil, :pid, "pid", [self()], name, make_ref(), Terms.external_pid()] do
        {GenRegistry, :register_name, [{name, :id}, pid], no_pid}
      end,
      for {id, pid} <- [id: dead, id: resident, id: context.server, resident: self()] do
        {GenRegistry, :register_name, [{name, id}, pid], {:answers, :no}}
      end,
      {GenRegistry, :send, [{name, :id}, :message],
       {:is, &(&1 == {:exit, {:badarg, {{name, :id}, :message}}})}},
      for id <- [:none, :resident] do
        {GenRegistry, :unregister_name, [{name, id}], {:answers, :ok}}
      end
    ])
  end

  ## Ids that are larger than any memory once they are copied, or nearly so

  defp enormous_rows(context) do
    not_found = {:answers, {:error, :not_found}}
    too_large = {:raises, ArgumentError, "the id is larger than 16 MB"}
    large? = &match?({:answer, {:ok, pid}} when is_pid(pid), &1)

    Enum.concat(
      for id <- too_large_ids() do
        [
          {GenRegistry, :lookup, [context.name, id], not_found},
          {GenRegistry, :lookup_many, [context.name, [id, :resident, id]],
           {:answers, [resident: context.resident]}},
          {GenRegistry, :lookup_or_start, [context.name, id], too_large},
          {GenRegistry, :start, [context.server, id], too_large},
          {GenRegistry, :call, [context.name, id, :request], too_large},
          {GenRegistry, :cast, [context.server, id, :message], too_large},
          {GenRegistry, :stop, [context.name, id], not_found},
          {GenRegistry, :whereis_name, [{context.name, id}], {:answers, :undefined}},
          {GenRegistry, :register_name, [{context.name, id}, self()], too_large},
          {GenRegistry, :unregister_name, [{context.name, id}], {:answers, :ok}}
        ]
      end ++
        for id <- large_ids() do
          [
            {GenRegistry, :lookup, [context.name, id], not_found},
            {GenRegistry, :stop, [context.name, id], not_found},
            {__MODULE__, :start_and_stop, [context.name, id], {:is, large?}}
          ]
        end
    )
  end

  @doc "Starts the worker of an id that has none, and stops it; answers as the start does."
  def start_and_stop(registry, id) do
    {:ok, pid} = GenRegistry.start(registry, id)
    {:ok, ^pid} = GenRegistry.lookup(registry, id)
    [{_, ^pid}, {:resident, _}] = GenRegistry.lookup_many(registry, [:none, id, :resident])
    {:ok, _} = GenRegistry.lookup_id(registry, pid)
    {:ok, pid} = GenRegistry.lookup_or_start(registry, id)
    :ok = GenRegistry.stop(registry, id)
    {:ok, pid}
  end

  # All but the last are a few hundred words here, and 2^40 and more where nothing is shared.
  defp open_too_large_ids do
    [
      # As deep as the NIF follows by calls, then deeper.
      doubled(1, 31, &Tuple.duplicate(&1, 3)),
      doubled(1.0, 100, &{&1, &1}),
      doubled([], 100, &[&1 | &1]),
      doubled("binary", 100, &%{1 => &1, 2 => &1}),
      doubled(2 ** 100, 20, &Tuple.duplicate(&1, 1_000)),
      doubled(make_ref(), 100, &[:a, &1, &1]),
      List.duplicate(:binary.copy("x", 1_000_000), 1_000),
      :binary.copy("x", 16 * 1024 * 1024 + 8)
    ]
  end

  # The same, with parts that the NIF cannot look into.
  defp sealed_too_large_ids do
    shared = doubled(1, 100, &[&1 | &1])

    [
      doubled(fn -> :ok end, 100, &{&1, &1}),
      Terms.closure(shared),
      {:user, [Terms.closure({1, Terms.closure(shared)})]},
      doubled(1, 100, &Terms.closure([&1, &1])),
      List.duplicate(Terms.closure(:binary.copy("x", 1_000_000)), 20),
      # In a fun, lest somebody wants it in digits.
      Terms.closure(List.duplicate(2 ** 4_000_000, 40)),
      List.duplicate(<<0::size(8_000_001)>>, 20),
      <<0::size(134_217_729)>>
    ] ++
      for(
        record <- Terms.native_records([shared]),
        wrap <- [& &1, &%{&1 => &1}],
        do: wrap.(record)
      )
  end

  defp too_large_ids, do: open_too_large_ids() ++ sealed_too_large_ids()

  defp doubled(term, levels, wrap) do
    Enum.reduce(1..levels, term, fn _, term -> wrap.(term) end)
  end

  defp large_ids do
    [
      Terms.nest(1, :tuple, 300_000),
      Terms.nest("x", :list, 300_000),
      Terms.nest(1.5, :tail, 300_000),
      Terms.nest(make_ref(), :map, 100_000),
      Enum.to_list(1..1_000_000) ++ :improper,
      :binary.copy("x", 10_000_000),
      <<0::size(80_000_001)>>,
      2 ** 4_000_000,
      Map.new(1..100_000, &{&1, [&1]}),
      Tuple.duplicate({}, 1_000_000),
      Terms.closure(Enum.to_list(1..100_000))
    ]
  end

  ## The NIF's functions, which only the library calls

  defp nif_rows(context) do
    %{table: table, name: name, resident: resident} = context
    badarg = {:raises, ArgumentError, ""}
    # Resources of other kinds, and what a handle looks like when its registry has been forgotten.
    forgotten = :erlang.binary_to_term(:erlang.term_to_binary(make_ref()))
    others = [nil, :table, 1, "table", {}, [table], name, self(), make_ref(), forgotten]
    no_tables = others ++ [:ets.new(:table, []), :counters.new(1, []), Terms.external_reference()]
    no_pids = [nil, :pid, 0, "pid", [self()], make_ref(), hd(Port.list()), Terms.external_pid()]
    no_names = Enum.reject(no_names(context), &(&1 == context.closed)) ++ [Terms.closure(1)]
    nowhere = :erlang.list_to_pid(~c"<0.32000.100>")

    native = fn function, args, expected -> {GenRegistry.Native, function, args, expected} end

    List.flatten([
      for no_name <- no_names do
        [
          native.(:lookup, [no_name, :resident], {:answers, :not_running}),
          native.(:lookup_alive, [no_name, :resident], {:answers, :not_running}),
          native.(:lookup_many, [no_name, [:resident]], {:answers, :not_running}),
          native.(:lookup_id, [no_name, resident], {:answers, :not_running}),
          native.(:count, [no_name], {:answers, :not_running}),
          native.(:sample, [no_name], {:answers, :not_running}),
          native.(:scan, [no_name, 0], {:answers, :not_running}),
          native.(:scan_children, [no_name, 0], {:answers, :not_running}),
          native.(:guests, [no_name], {:answers, :not_running}),
          native.(:release, [no_name, :resident], {:answers, :not_running}),
          native.(:owner, [no_name], {:answers, nil}),
          native.(:expected?, [no_name], {:answers, false})
        ]
      end,
      for(no_name <- no_servers(context), do: native.(:open, [no_name, :infinity], badarg)),
      for(ids <- [nil, :id, 1, "ids", %{}, {1}], do: native.(:lookup_many, [name, ids], badarg)),
      for no_pid <- no_pids do
        native.(:lookup_id, [name, no_pid], {:answers, :not_found})
      end,
      for cursor <- [-1, 1.5, 2 ** 64, 2 ** 70, -(2 ** 70), nil, :done, "0", [], {0}] do
        [native.(:scan, [name, cursor], badarg), native.(:scan_children, [name, cursor], badarg)]
      end,
      # Of no use, but they lead nowhere else.
      for cursor <- [1, 2 ** 58, 2 ** 59 - 1, 2 ** 59, 2 ** 60 - 1, 2 ** 60, 2 ** 63, 2 ** 64 - 1] do
        native.(:scan, [name, cursor], {:is, &scanned?/1})
      end,
      for no_table <- no_tables do
        [
          native.(:close, [no_table], badarg),
          native.(:end_in_order, [no_table], badarg),
          native.(:register, [no_table, :id, self(), self()], badarg),
          native.(:retire, [no_table, :resident], badarg),
          native.(:track, [no_table, self(), nil], badarg),
          native.(:refuse, [no_table, self(), nil], badarg),
          native.(:memory, [no_table], badarg),
          native.(:promise, [no_table, :id, self()], badarg),
          native.(:give_back, [no_table, self()], badarg),
          native.(:known, [no_table, resident], badarg),
          native.(:forget_dead, [no_table, resident], badarg),
          native.(:leave_place, [no_table, resident], badarg),
          native.(:inherit_place, [no_table, resident, self()], badarg),
          native.(:begin_start, [no_table, :id], badarg),
          native.(:end_start, [no_table, self()], badarg),
          native.(:has_id, [no_table, resident], badarg),
          native.(:killed_at, [no_table, 1], badarg),
          native.(:told, [no_table, resident], badarg),
          native.(:ends?, [no_table, :id, resident], badarg),
          native.(:left, [no_table, :id], badarg),
          native.(:release_own, [no_table, :id], badarg),
          native.(:scan_guests, [no_table, 0], badarg),
          for function <- [
                :count_left,
                :earlier,
                :ended_idle,
                :ever,
                :note_busy,
                :processes,
                :publish,
                :seal,
                :set_sweeper,
                :key,
                :starting,
                :sweeper
              ] do
            native.(function, [no_table], badarg)
          end
        ]
      end,
      for no_held <- [table | no_tables], function <- [:take, :take_large, :let_go] do
        native.(function, [no_held], badarg)
      end,
      for term <- [nil, self(), %{a: [1]}, context.dead], function <- [:hold, :hold_large] do
        native.(function, [term], {:is, &match?({:answer, held} when is_reference(held), &1)})
      end,
      for no_pid <- no_pids do
        [
          native.(:alive, [no_pid], {:answers, false}),
          native.(:local, [no_pid], {:answers, false}),
          native.(:leave_place, [table, no_pid], badarg),
          native.(:inherit_place, [table, no_pid, self()], badarg),
          native.(:inherit_place, [table, resident, no_pid], badarg),
          native.(:end_start, [table, no_pid], badarg),
          native.(:has_id, [table, no_pid], badarg),
          native.(:told, [table, no_pid], badarg),
          native.(:ends?, [table, :id, no_pid], badarg),
          native.(:register, [table, :id, no_pid, self()], badarg),
          native.(:track, [table, no_pid, nil], badarg),
          native.(:refuse, [table, no_pid, nil], badarg),
          native.(:promise, [table, :id, no_pid], {:answers, true}),
          native.(:give_back, [table, no_pid], badarg),
          native.(:known, [table, no_pid], badarg),
          native.(:forget_dead, [table, no_pid], badarg)
        ]
      end,
      for pid <- [context.dead, nowhere] do
        [
          native.(:alive, [pid], {:answers, false}),
          native.(:local, [pid], {:answers, true}),
          native.(:register, [table, :id, pid, self()], {:answers, :dead}),
          native.(:register, [table, :id, pid, :no_parent], {:answers, :dead}),
          native.(:track, [table, pid, Terms.external_pid()], {:answers, false}),
          native.(:refuse, [table, pid, Terms.external_pid()], {:answers, true}),
          native.(:known, [table, pid], {:answers, false}),
          native.(:forget_dead, [table, pid], {:answers, :ok})
        ]
      end,
      native.(:reclaiming, [], {:answers, :ok}),
      for no_name <- ["name", 1, 1.5, [:name], {:name}, %{}, self(), make_ref(), &is_atom/1] do
        [
          native.(:begin_wait, [self(), no_name, :id], badarg)
        ]
      end,
      # Nobody is busy yet.
      native.(:begin_wait, [self(), :nobody_has_this_name, :id], {:answers, {nil, []}}),
      native.(:begin_start, [context.closed_table, :id], {:answers, :closed}),
      native.(:end_start, [context.closed_table, self()], {:answers, :closed}),
      native.(:begin_start, [table, :id], {:answers, :ok}),
      for no_pid <- no_pids do
        [
          native.(:begin_wait, [no_pid, name, :id], badarg),
          native.(:end_wait, [no_pid, 1], {:answers, :ok}),
          native.(:hear_wait, [no_pid, 1], {:answers, :ok}),
          native.(:break_circle, [[no_pid]], {:answers, []}),
          native.(:break_circle, [no_pid], {:answers, []}),
          native.(:circle, [[no_pid]], {:answers, []}),
          native.(:circle, [no_pid], {:answers, []}),
          native.(:circle_ids, [[no_pid]], {:answers, []}),
          native.(:circle_ids, [no_pid], {:answers, []})
        ]
      end,
      native.(:begin_wait, [context.dead, name, :id], {:answers, {nil, []}}),
      # Another id than its own.
      native.(
        :begin_wait,
        [self(), :nobody_has_this_name, :id],
        {:answers, &match?({_, []}, &1)}
      ),
      native.(:begin_wait, [self(), name, :id], {:answers, &match?({_, [{_, _}]}, &1)}),
      # The calls in between are waits too, and over.
      native.(:circle, [[]], {:answers, []}),
      native.(:circle_ids, [[]], {:answers, []}),
      native.(:break_circle, [[self() | :improper]], {:answers, []}),
      for no_number <- [nil, 0, -1, 2 ** 64, 1.5, :one, self()] do
        [
          native.(:hear_wait, [self(), no_number], {:answers, :ok}),
          native.(:end_wait, [self(), no_number], {:answers, :ok})
        ]
      end,
      native.(:busy_among, [[context.dead, self()]], {:answers, self()}),
      # What follows is not looked at.
      for no_pid <- no_pids do
        native.(:busy_among, [[no_pid, self()]], {:answers, nil})
      end,
      native.(:busy_among, [[self() | :improper]], {:answers, self()}),
      for no_way <- [nil, :way, 1, self(), {self()}, %{}, "way", [], [1 | self()]] do
        native.(:busy_among, [no_way], {:answers, nil})
      end,
      native.(:starting, [table], {:answers, [self()]}),
      native.(:end_start, [table, self()], {:answers, :ok}),
      # It is in none.
      native.(:end_start, [table, self()], {:answers, :ok}),
      native.(:starting, [table], {:answers, []}),
      native.(:leave_place, [table, resident], {:answers, false}),
      native.(:inherit_place, [table, resident, self()], {:answers, false}),
      native.(:earlier, [table], {:answers, []}),
      native.(:count_left, [table], {:answers, 0}),
      native.(:left, [table, :resident], {:answers, :none}),
      native.(:note_busy, [table], {:answers, :ok}),
      native.(:has_id, [table, resident], {:answers, true}),
      native.(:told, [table, self()], {:answers, :ok}),
      native.(:ends?, [table, :resident, resident], {:answers, false}),
      for no_time <- [nil, 1.5, 2 ** 63, "1"] do
        native.(:killed_at, [table, no_time], badarg)
      end,
      native.(:killed_at, [table, 7], {:answers, 7}),
      native.(:killed_at, [table, 8], {:answers, 7}),
      native.(:has_id, [table, self()], {:answers, false}),
      native.(:release_own, [table, :resident], {:answers, false}),
      native.(:release_own, [table, :none], {:answers, false}),
      native.(:scan_guests, [table, 0], {:answers, {[], :done}}),
      # One that is gone.
      for gone <- [{name, 2 ** 64 - 1}, {:nobody_has_this_name, 0}] do
        [
          native.(:scan_guests, [gone, 0], {:answers, {[], :done}}),
          native.(:set_sweeper, [gone], {:answers, false}),
          native.(:sweeper, [gone], {:answers, nil}),
          native.(:track, [gone, self(), nil], {:answers, false}),
          native.(:has_id, [gone, self()], {:answers, false}),
          native.(:killed_at, [gone, 7], {:answers, 7}),
          native.(:told, [gone, self()], {:answers, :ok}),
          native.(:refuse, [gone, self(), nil], {:answers, false}),
          native.(:end_start, [gone, self()], {:answers, :closed}),
          native.(:give_back, [gone, self()], {:answers, :ok}),
          native.(:release_own, [gone, :id], {:answers, false}),
          native.(:processes, [gone], {:answers, []}),
          native.(:starting, [gone], {:answers, []})
        ]
      end,
      for no_key <- [{name, -1}, {name, 1.5}, {name, 2 ** 64}, {"name", 1}, {name}, {name, 1, 2}] do
        native.(:processes, [no_key], badarg)
      end,
      native.(:register, [table, :id, resident, nil], {:answers, :pid_taken}),
      native.(:register, [table, :resident, self(), nil], {:answers, {:id_taken, resident}}),
      native.(:retire, [table, :none], {:answers, :not_found}),
      # It is alive, and it is no guest.
      native.(:release, [name, :resident], {:answers, :ok}),
      native.(:register, [context.closed_table, :id, self(), nil], {:answers, :closed}),
      native.(:retire, [context.closed_table, :resident], {:answers, :not_found}),
      native.(:seal, [context.closed_table], {:answers, :ok}),
      native.(:close, [context.closed_table], {:answers, :ok}),
      native.(:end_in_order, [context.closed_table], {:answers, :ok}),
      native.(:expected?, [context.closed], {:answers, false}),
      native.(:registries, [], {:is, fn {:answer, names} -> name in names end}),
      for no_words <- [-1, 1.5, nil, 2 ** 64, []] do
        [native.(:measure, [:id, no_words], badarg), native.(:measured, [no_words], badarg)]
      end,
      native.(:refers?, [{:user, 1}], {:answers, false}),
      for id <- [make_ref(), [:user | make_ref()]] ++ sealed_too_large_ids() do
        native.(:refers?, [id], {:answers, true})
      end,
      for id <- sealed_too_large_ids() do
        [
          native.(:id?, [id], {:answers, :sealed}),
          native.(:register, [table, id, self(), nil], {:answers, :sealed}),
          native.(:retire, [table, id], {:answers, :sealed}),
          native.(:promise, [table, id, self()], {:answers, :sealed}),
          native.(:begin_start, [table, id], {:answers, :sealed}),
          native.(:release_own, [table, id], {:answers, :sealed})
        ]
      end,
      for id <- open_too_large_ids() do
        [
          native.(:id?, [id], {:answers, false}),
          native.(:register, [table, id, self(), nil], {:answers, :id_too_large}),
          native.(:retire, [table, id], {:answers, :not_found}),
          native.(:promise, [table, id, self()], {:answers, false})
        ]
      end
    ])
  end

  defp scanned?({:answer, {entries, next}}) do
    is_list(entries) and (next == :done or is_integer(next))
  end

  defp scanned?(_), do: false

  ## What a registry's process is sent

  # `GenRegistry.StrangersTest` has more of them, for a registry that is busy.
  defp messages(%{name: name, resident: resident, dead: dead}) do
    test = self()
    remote = Terms.external_pid()
    from = fn pid -> {pid, make_ref()} end

    [
      nil,
      :hello,
      "hello",
      1.5,
      %{},
      {},
      [1 | 2],
      make_ref(),
      fn -> :ok end,
      {:EXIT, test, :normal},
      {:EXIT, dead, :kill},
      {:EXIT, resident, :shutdown},
      {:EXIT, :no_pid, :kill},
      {:EXIT, remote, :noconnection},
      {:EXIT, test},
      {:DOWN, make_ref(), :process, resident, :killed},
      {:DOWN, make_ref(), :process, {name, node()}, :noproc},
      {:DOWN, :no_reference, :process, dead, :killed},
      {:DOWN, make_ref(), :port, hd(Port.list()), :normal},
      {:DOWN, %{}, nil, nil, nil},
      {:started, test, :resident, {:ok, test}},
      {:started, dead, :visitor, {:ok, dead}},
      {:started, test, :visitor, {:ok, remote}},
      {:started, test, :visitor, {:ok, :no_pid}},
      {:started, :no_pid, :visitor, {:error, :failed}},
      {:started, test, :visitor, nil},
      {:started, resident, :resident, {:error, :failed}},
      {:time_is_over, :resident, make_ref()},
      {:time_is_over, :resident, :no_reference},
      {:refused, :no_pid, test},
      {:refused, remote, test},
      {:refused, dead, :no_pid},
      {:refused_too_long, :no_pid, make_ref()},
      {:refused_too_long, resident, :no_reference},
      {:refused_too_long, resident, make_ref()},
      {:gave_up, :resident, test},
      {:gave_up, :visitor, :no_pid},
      {:swept, test},
      {:swept, :no_pid},
      {:nodedown, :other@nowhere},
      {:timeout, make_ref(), :time},
      {:"$gen_cast", {:stop, :resident}},
      {:"$gen_cast", nil},
      {:"$gen_call", from.(dead), :hello},
      {:"$gen_call", from.(test), {:start, :resident}},
      {:"$gen_call", from.(test), {:stop, :visitor}},
      {:"$gen_call", from.(dead), {:stop, :none}},
      {:"$gen_call", from.(dead), {:register, :nobody, dead, :no_parent}},
      {:"$gen_call", from.(test), {:register, :nobody, :no_pid, nil}},
      {:"$gen_call", from.(test), {:start, :nobody, [], :infinity}},
      {:"$gen_call", from.(dead), {:in, {dead, 1}, {:stop, :none}}},
      {:"$gen_call", from.(dead), {:in, {test, nil}, {:stop, :none}}},
      {:"$gen_call", from.(test), {:in, {:no_starter, nil}, {:stop, :none}}},
      {:"$gen_call", from.(test), {:in, {test, :no_wait}, {:stop, :none}}},
      {:"$gen_call", from.(remote), {:in, {test, 2 ** 64}, {:stop, :none}}},
      {:"$gen_call", from.(test), {:in, {test, 1}, {:in, {test, 1}, {:stop, :none}}}},
      {:"$gen_call", from.(test), {:in, {test, 1}, :info}},
      {:"$gen_call", from.(test), {:in, {test, 1}, {:await, :none}}},
      {:"$gen_call", from.(test), {:in, test, {:stop, :none}}},
      {:"$gen_call", from.(remote), {:stop, :none}},
      # Nobody waits for these: nothing is started.
      {:"$gen_call", from.(dead), {:lookup_or_start, :nobody, []}},
      {:"$gen_call", from.(remote), {:start, :nobody, []}},
      # For these somebody does, but the start fails.
      {:"$gen_call", from.(test), {:start, :bad, :no_list}},
      {:"$gen_call", from.(test), {:start, :bad, [1 | 2]}},
      {:"$gen_call", from.(test), {:lookup_or_start, :bad, [1, 2, 3]}},
      {:"$gen_call", from.(dead), :which_children},
      {:"$gen_call", from.(remote), :count_children},
      {:system, from.(test), :get_state},
      {:system, from.(test), :get_status},
      {:system, from.(test), :no_such_request},
      {:system, from.(dead), :get_status},
      {:system, from.(remote), :get_state},
      {:system, from.(test), {:debug, :no_such_flag}},
      {:system, from.(test), {:replace_state, fn _ -> raise "no" end}},
      {:system, from.(test), {:change_code, __MODULE__, :vsn, :extra}},
      {:get_until, test, make_ref(), :x},
      {:io_request, test, make_ref(), {:put_chars, :unicode, "hello"}}
    ]
  end
end
