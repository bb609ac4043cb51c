defmodule GenRegistry.ReportsTest do
  @moduledoc """
  A worker that fails to start is reported to the log, once, as supervisors do it.
  """

  use ExUnit.Case

  import ExUnit.CaptureLog
  import Lifecycle

  # A `:logger` handler: has the test told of events.
  def log(event, %{config: %{test: test}}), do: send(test, {:logged, event})

  setup context do
    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: %{test: self()}})
    on_exit(fn -> :logger.remove_handler(__MODULE__) end)
    {:ok, registry: registry(context, worker_module: FunWorker)}
  end

  # What is logged of a start that ends like that, as text.
  defp logged(registry, id, answer, start_link) do
    capture_log(fn ->
      assert GenRegistry.start(registry, id, [start_link]) == answer
      settle(registry)
    end)
  end

  # Returns when all has been told: what tells of starts, ends then.
  defp settle(registry) do
    StartSteps.end_with_all_told(registry)
    begin_registry(registry)
  end

  defp reports do
    receive do
      {:logged, %{msg: {:report, %{label: {GenRegistry, _}}}} = event} -> [event | reports()]
      {:logged, _} -> reports()
    after
      0 -> []
    end
  end

  test "with registry, id and reason", %{registry: registry} do
    text = logged(registry, {:user, "7"}, {:error, :no_luck}, fn -> {:error, :no_luck} end)
    assert text =~ "[error] GenRegistry #{inspect(registry)} failed to start the worker of id"
    assert text =~ ~s(of id {:user, "7"}\n** \(exit\) :no_luck\nStart Call: FunWorker.start_link)
    assert [_, _] = String.split(text, "failed to start")

    assert [%{level: :error, msg: {:report, report}, meta: meta}] = reports()
    assert %{label: {GenRegistry, :start_error}, report: report} = report

    assert [supervisor: {:local, ^registry}, errorContext: :start_error, reason: reason] =
             Enum.take(report, 3)

    assert reason == :no_luck
    assert report[:offender][:id] == ~s({:user, "7"})
    assert report[:offender][:mfargs] == {FunWorker, :start_link, :undefined}
    assert meta.domain == [:elixir]
    assert meta.application == :gen_registry
  end

  test "exceptions with what they say, and where", %{registry: registry} do
    text =
      capture_log(fn ->
        assert {:error, {%ArgumentError{}, _}} =
                 GenRegistry.start(registry, :id, [fn -> raise ArgumentError, "oh no" end])

        settle(registry)
      end)

    assert text =~ "an exception was raised:"
    assert text =~ "(ArgumentError) oh no"
    assert text =~ "reports_test.exs"
  end

  test "the failure of a GenServer's init, once", context do
    registry = registry(%{context | test: :init_fails})

    text =
      capture_log(fn ->
        assert GenRegistry.start(registry, :id, [fn -> {:stop, :bad_init} end]) ==
                 {:error, :bad_init}

        settle(registry)
      end)

    assert [_, _] = String.split(text, "failed to start")
  end

  test "not :ignore, nor what was started already, nor a start that went well", context do
    %{registry: registry} = context
    other = self()

    text =
      logged(registry, 1, {:error, :ignore}, fn -> :ignore end) <>
        logged(registry, 2, {:error, {:already_started, other}}, fn ->
          {:error, {:already_started, other}}
        end)

    good =
      capture_log(fn ->
        {:ok, pid} = GenRegistry.start(registry, 3, [&IdleWorker.start_link/0])
        {:error, {:already_started, ^pid}} = GenRegistry.start(registry, 3)
        settle(registry)
      end)

    assert text <> good == ""
    assert reports() == []
  end

  test "each of those who fail in turn for one id", context do
    registry = registry(%{context | test: :in_turn})

    text =
      capture_log(fn ->
        first = ask(:start, registry, :id, [held(:first, {:stop, :first_reason})])
        worker = reached(:first)
        second = ask(:start, registry, :id, [fn -> {:stop, :second_reason} end])
        go(worker)
        assert answer(first) == {:error, :first_reason}
        assert answer(second) == {:error, :second_reason}
        settle(registry)
      end)

    assert [_, _, _] = String.split(text, "failed to start")
    assert text =~ "first_reason"
    assert text =~ "second_reason"
  end

  test "a start whose starter was killed", context do
    registry = registry(%{context | test: :killed})

    text =
      capture_log(fn ->
        start = ask(:start, registry, "an id", [held(:init)])
        kill(starter(reached(:init)))
        assert answer(start) == {:error, {:starter_died, :killed}}
        settle(registry)
        assert [_] = reports()
      end)

    assert text =~ ~s(of id "an id"\n** \(exit\) {:starter_died, :killed})
    assert [_, _] = String.split(text, "failed to start")
  end

  test "ids of any size and kind are cut to a bounded length", %{registry: registry} do
    nested = Enum.reduce(1..10_000, [], fn n, list -> [n, list] end)

    ids = [
      String.duplicate("x", 10_000_000),
      :binary.copy(<<0>>, 10_000_000),
      String.duplicate("ä", 100_000),
      Enum.to_list(1..100_000),
      Map.new(1..10_000, &{&1, &1}),
      List.to_tuple(Enum.to_list(1..10_000)),
      for(_ <- 1..50, do: String.duplicate("long", 100)),
      nested,
      make_ref(),
      %{__struct__: NoSuchStruct, value: 1}
    ]

    for id <- ids do
      text = logged(registry, id, {:error, :no_luck}, fn -> {:error, :no_luck} end)
      assert text =~ "failed to start the worker of id "
      assert text =~ ":no_luck"
      assert String.valid?(text)
      assert byte_size(text) < 2_000
      assert [%{msg: {:report, %{report: report}}}] = reports()
      assert String.length(report[:offender][:id]) <= 203
      # Handlers may be sent the whole of it.
      assert :erts_debug.flat_size(report) < 1_000
    end
  end

  # To make all digits of such a one takes minutes.
  test "integers of any size are no burden", %{registry: registry} do
    large = Bitwise.bsl(1, 3_000_000)

    for {id, reason} <- [
          {large, :no},
          {[{large}], :no},
          {%{large => [large]}, :no},
          {1, {:no, large}}
        ] do
      text = logged(registry, id, {:error, reason}, fn -> {:error, reason} end)
      assert text =~ "a large integer"
    end
  end

  test "a reason of any size is cut too", %{registry: registry} do
    reason = for n <- 1..50, do: {n, String.duplicate("much", 10_000)}
    text = logged(registry, :id, {:error, reason}, fn -> {:error, reason} end)
    assert text =~ "failed to start"
    # Logger has a limit of its own, other handlers may have none.
    assert [%{msg: {:report, report}, meta: meta}] = reports()
    {format, args} = meta.report_cb.(report)
    assert String.length(to_string(:io_lib.format(format, args))) < 10_000
  end

  # The first frame of a stack trace may have the arguments of the call that failed.
  test "no argument is told", context do
    secret = Enum.join(["a very", "secret", "word"], " ")

    for {name, worker_module, args} <- [
          # There is no start_link with so many.
          {:two, FunWorker, [secret, secret]},
          # No clause of it takes such.
          {:clauses, __MODULE__.Clauses, [secret]},
          # It hands them on to what takes none such.
          {:to_atom, FunWorker, [fn -> String.to_existing_atom(secret) end]},
          {:to_integer, FunWorker, [fn -> :erlang.binary_to_integer(secret) end]}
        ] do
      registry = registry(%{context | test: name}, worker_module: worker_module)

      text =
        capture_log(fn ->
          assert {:error, {%_{}, [_ | _]}} = GenRegistry.start(registry, :id, args)
          settle(registry)
        end)

      assert text =~ "failed to start"
      # The functions are.
      assert text =~ "start_link" or text =~ "atom" or text =~ "integer"
      refute text =~ "secret"
      assert [event] = reports()
      refute inspect(event, limit: :infinity, printable_limit: :infinity) =~ "secret"
    end
  end

  test "nor one of a call in an exit, or of a fun", %{registry: registry} do
    secret = Enum.join(["a very", "secret", "word"], " ")
    call = fn -> GenServer.call(:nobody_has_this_name, {:tell, secret}) end
    takes_none = fn -> :none end
    noproc = {:noproc, {GenServer, :call, [:nobody, secret, 5_000]}}
    mfa = {GenServer, :cast, [:nobody, secret]}

    for {start_link, shown} <- [
          {fn -> GenRegistry.send({registry, :nobody}, secret) end, "{:badarg, "},
          {fn -> {:error, %{reason: [noproc]}} end, "%{reason: [noproc:"},
          {fn -> {:error, {:badarity, {takes_none, [secret]}}} end, "[:_]"},
          {fn -> {:error, {:undef, [{takes_none, [secret], []}]}} end, "#Function<"},
          {fn -> {:error, {:EXIT, mfa}} end, "exited in: GenServer.cast(:_, :_)"},
          {fn -> :erpc.call(node(), __MODULE__.Clauses, :start_link, [secret]) end,
           "ErlangError"},
          {fn -> blamed(fn -> __MODULE__.Clauses.start_link(secret) end) end, "# 1\n    :_"},
          {call, "exited in: GenServer.call(:_, :_, :_)"},
          {fn -> {:error, catch_exit(call.())} end, "exited in: GenServer.call(:_, :_, :_)"},
          {fn -> apply(takes_none, [secret]) end, "called with 1 argument (:_)"}
        ] do
      text =
        capture_log(fn ->
          assert {:error, _} = GenRegistry.start(registry, :id, [start_link])
          settle(registry)
        end)

      assert text =~ shown
      refute text =~ "secret"
      assert [event] = reports()
      refute inspect(event, limit: :infinity, printable_limit: :infinity) =~ "secret"
    end
  end

  defp blamed(fun) do
    fun.()
  rescue
    error -> reraise elem(Exception.blame(:error, error, __STACKTRACE__), 0), __STACKTRACE__
  end

  test "nor any in the report of a registry that crashes", context do
    registry = registry(%{context | test: :crashing}, worker_module: FunWorker, max_starting: 1)
    secret = Enum.join(["a very", "secret", "word"], "_")
    test = self()

    held = fn ->
      send(test, {:held, self()})
      receive do: (:go -> :ignore)
    end

    text =
      capture_log(fn ->
        first = Task.async(fn -> GenRegistry.start(registry, :first, [held], :infinity) end)
        assert_receive {:held, _starter}
        args = [String.to_atom(secret), {1, secret}]
        next = Task.async(fn -> GenRegistry.start(registry, :next, args, :infinity) end)
        StartSteps.eventually(fn -> GenRegistry.info(registry).queued == 1 end)
        server = Process.whereis(registry)
        monitor = Process.monitor(server)
        :sys.replace_state(server, fn state -> %{state | worker_shutdown: 0} end)
        spawn(fn -> GenServer.stop(server, :crash) end)
        for task <- [first, next], do: assert(Task.await(task) == {:error, :shutdown})
        assert_receive {:DOWN, ^monitor, _, _, :crash}
      end)

    assert text =~ "terminating"
    refute text =~ secret
  end

  defmodule Clauses do
    def start_link(:a), do: IdleWorker.start_link()
  end

  test "the caller does not wait for the log", %{registry: registry} do
    test = self()
    :ok = :logger.add_handler(:held, GenRegistry.ReportsTest.Held, %{config: %{test: test}})
    on_exit(fn -> :logger.remove_handler(:held) end)

    capture_log(fn ->
      assert GenRegistry.start(registry, :id, [fn -> {:error, :no_luck} end], :infinity) ==
               {:error, :no_luck}

      go(reached(:logging))
      settle(registry)
    end)
  end

  defmodule Held do
    def log(%{msg: {:report, %{label: {GenRegistry, _}}}}, %{config: %{test: test}}) do
      Lifecycle.wait(test, :logging)
    end

    def log(_event, _config), do: :ok
  end
end
