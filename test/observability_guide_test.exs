defmodule GenRegistry.ObservabilityGuideTest do
  @moduledoc """
  What is to paste from the guide to observability, in front of stand-ins for the packages: each metric is
  of an event that there is, and the page shows what runs.
  """

  # There is one module `:telemetry`.
  use ExUnit.Case

  import Lifecycle

  @guide Path.join(__DIR__, "../guides/observability.md")
  @external_resource @guide
  @moduletag :capture_log

  # The package `:telemetry` is not here.
  @compile {:no_warn_undefined, :telemetry}
  not_here = " do\n  @compile {:no_warn_undefined, :telemetry}\n"

  for [module] <-
        Regex.scan(~r/^```elixir\n(defmodule .*?)^```/ms, File.read!(@guide),
          capture: :all_but_first
        ) do
    module
    |> String.replace(" do\n", not_here, global: false)
    |> Code.eval_string([], file: @guide)
  end

  alias MyApp.{RegistryMeasurements, RegistryMetrics}
  alias MyAppWeb.RegistriesPage

  defp listen(events) do
    tell = fn event, measurements, metadata, test ->
      send(test, {event, measurements, metadata})
    end

    :telemetry.attach_many(make_ref(), events, tell, self())
  end

  # All events, once there are so many of this one.
  defp told(0, _awaited), do: all()

  defp told(count, awaited) do
    assert_receive {^awaited, _, _} = event
    [event | told(count - 1, awaited)]
  end

  defp all do
    receive do
      event -> [event | all()]
    after
      0 -> []
    end
  end

  describe "metrics" do
    setup do
      TelemetryStandIn.load()
      on_exit(&TelemetryStandIn.unload/0)
    end

    test "are of events that come, with measurements and tags that they have", context do
      metrics = RegistryMetrics.metrics()
      listen(for %{event_name: event} <- metrics, uniq: true, do: event)

      registry = registry(context, max_children: 1)

      for reason <- [:normal, {:shutdown, :idle}, {:shutdown, :other}, :crash] do
        pid = start!(registry, :id)
        monitor = watch(pid)
        :sys.terminate(pid, reason, :infinity)
        down_of(monitor)
      end

      {:error, :no} = GenRegistry.start(registry, :id, [fn -> {:stop, :no} end])
      {:error, _} = GenRegistry.start(registry, :id, [:answer, fn -> raise "no" end])
      start!(registry, :id)
      {:error, :max_children} = GenRegistry.start(registry, :other, [plain()])
      assert RegistryMeasurements.measure() == :ok

      # Ends are told of later than they are seen.
      events = told(4, [:gen_registry, :worker, :exit])

      for metric <- metrics do
        assert [_ | _] =
                 those = for({name, _, _} = event <- events, name == metric.event_name, do: event)

        for {_, measurements, metadata} <- those do
          assert is_integer(measurements[metric.measurement])
          metadata = Map.get(metric, :tag_values, & &1).(metadata)
          for tag <- metric.tags, do: assert(is_atom(metadata[tag]))
        end
      end

      tags = fn event, tag ->
        [%{tag_values: values} | _] =
          for %{kind: :counter, event_name: ^event} = metric <- metrics, do: metric

        Enum.sort(for {^event, _, metadata} <- events, do: values.(metadata)[tag])
      end

      assert tags.([:gen_registry, :worker, :exit], :reason) == [
               :crash,
               :idle,
               :normal,
               :shutdown
             ]

      assert tags.([:gen_registry, :worker, :start, :stop], :result) ==
               [:error, :ok, :ok, :ok, :ok, :ok]
    end

    test "are in the units that they say", context do
      listen([[:gen_registry, :worker, :start, :stop]])
      begun = System.monotonic_time()
      start!(registry(context), :id)
      assert_receive {_, %{duration: duration}, _}
      assert duration in 0..(System.monotonic_time() - begun)

      for %{kind: :summary} = metric <- RegistryMetrics.metrics(),
          do: assert(metric.unit == {:native, :millisecond})
    end
  end

  describe "the page" do
    setup context do
      TelemetryStandIn.load()
      on_exit(&TelemetryStandIn.unload/0)
      [one, two] = for n <- [1, 2], do: registry(%{context | test: :"#{context.test} #{n}"})
      for n <- 1..30, do: start!(one, {:user, n})
      start!(two, {:group, 1})
      {:ok, one: one, two: two}
    end

    defp attributes(name) do
      for {^name, value} <- RegistriesPage.render(%{page: :page}), do: value
    end

    defp params(params),
      do: Map.merge(%{search: nil, sort_by: :registry, sort_dir: :asc, limit: 50}, params)

    test "is in the menu, and its tables have the fields of their rows" do
      assert RegistriesPage.menu_link(%{}, %{}) == {:ok, "Registries"}
      [registries, workers] = attributes("row_fetcher")
      {[row | _], _} = registries.(params(%{}), node())
      {[worker | _], _} = workers.(params(%{}), node())
      assert Enum.all?(attributes("field"), &(is_map_key(row, &1) or is_map_key(worker, &1)))
      [attrs] = attributes("row_attrs")
      assert {"phx-value-info", "PID" <> _} = List.keyfind(attrs.(worker), "phx-value-info", 0)
    end

    test "lists the registries, sorted and searched", %{one: one, two: two} do
      [fetch, _] = attributes("row_fetcher")
      search = one |> Atom.to_string() |> String.trim_trailing(" 1")
      {rows, 2} = fetch.(params(%{search: search, sort_by: :count, sort_dir: :desc}), node())
      assert [%{count: 30, worker_module: LifecycleWorker}, %{count: 1}] = rows
      assert Enum.map(rows, & &1.registry) == [inspect(one), inspect(two)]

      assert {[%{count: 1}], 2} =
               fetch.(params(%{search: search, sort_by: :count, limit: 1}), node())
    end

    test "lists the workers, searched and limited", %{one: one} do
      [_, fetch] = attributes("row_fetcher")
      {:ok, pid} = GenRegistry.lookup(one, {:user, 17})
      {rows, total} = fetch.(params(%{search: "{:user, 17}"}), node())

      assert rows == [
               %{registry: inspect(one), id: "{:user, 17}", pid: pid, process: inspect(pid)}
             ]

      assert total >= 31
      assert {rows, _} = fetch.(params(%{search: ":user", limit: 7}), node())
      assert length(rows) == 7
    end

    test "leaves out a registry that ends meanwhile, as do the measurements", %{one: one} do
      # Its name is there, and its process ends over the question.
      server = Process.whereis(one)
      :sys.suspend(server)
      [fetch, _] = attributes("row_fetcher")
      page = Task.async(fn -> fetch.(params(%{search: inspect(one)}), node()) end)
      measured = Task.async(&RegistryMeasurements.measure/0)
      until(fn -> match?({_, n} when n >= 2, Process.info(server, :message_queue_len)) end)
      kill(server)
      assert {[], 0} = Task.await(page)
      assert Task.await(measured) == :ok
    end
  end
end
