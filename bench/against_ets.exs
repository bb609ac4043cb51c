# Lookups and starts against a plain registry of one GenServer and an ETS table, in turn, in one
# run:
#
#     MIX_ENV=prod mix run bench/against_ets.exs
#
# Each figure is the median of the rounds; only the ratios mean anything on another machine.

Code.require_file("support/ets_registry.ex", __DIR__)

defmodule Bench.Worker do
  # A process and nothing else: what is measured is the registry.
  def start_link(init_ms \\ 0) do
    :proc_lib.start_link(__MODULE__, :init, [self(), init_ms])
  end

  def init(parent, init_ms) do
    if init_ms > 0, do: Process.sleep(init_ms)
    :proc_lib.init_ack(parent, {:ok, self()})
    loop()
  end

  defp loop do
    receive do
      _ -> loop()
    end
  end
end

defmodule Bench.AgainstEts do
  @rounds 7

  def run do
    IO.puts(
      "Elixir #{System.version()}, OTP #{System.otp_release()}, #{System.schedulers_online()} schedulers\n"
    )

    for entries <- [1_000, 100_000], do: lookups(entries)
    starts()
  end

  defp lookups(entries) do
    IO.puts("lookup, hit, #{entries} entries, ns a call  (median of #{@rounds})")

    for {shape, make} <- shapes() do
      with_registries(fn rivals ->
        ids = for n <- 1..entries, do: make.(n)
        for {module, name} <- rivals, id <- ids, do: {:ok, _} = module.lookup_or_start(name, id)

        # From another heap than the ones inserted, and in another order.
        probes = ids |> Enum.shuffle() |> Enum.take(20_000) |> :erlang.term_to_binary()

        report(shape, rivals, fn {module, name} ->
          probes = :erlang.binary_to_term(probes)
          repeat = max(div(200_000, length(probes)), 1)
          {us, :ok} = :timer.tc(fn -> probe(module, name, probes, repeat) end)
          us * 1_000 / (repeat * length(probes))
        end)
      end)
    end

    IO.puts("")
  end

  defp probe(_module, _name, _ids, 0), do: :ok

  defp probe(module, name, ids, repeat) do
    each(module, name, ids)
    probe(module, name, ids, repeat - 1)
  end

  # A clause for each rival, so that the loop calls it as an application would.
  for module <- [GenRegistry, Bench.EtsRegistry] do
    defp each(unquote(module), name, [id | ids]) do
      {:ok, _} = unquote(module).lookup(name, id)
      each(unquote(module), name, ids)
    end
  end

  defp each(_module, _name, []), do: :ok

  defp starts do
    IO.puts("starts, microseconds each  (median of #{@rounds})")

    for {callers, init_ms, total} <- [
          {1, 0, 5_000},
          {2, 0, 5_000},
          {200, 0, 10_000},
          {200, 1, 800}
        ] do
      report(
        "#{callers} callers, #{init_ms} ms init",
        [GenRegistry, Bench.EtsRegistry],
        fn module ->
          # The slow one is not made to wait for more than it must.
          total = if module == GenRegistry and init_ms > 0, do: total * 20, else: total

          with_registries([module], fn [{module, name}] ->
            share = div(total, callers)

            {us, _} =
              :timer.tc(fn ->
                1..callers
                |> Enum.map(fn caller ->
                  Task.async(fn ->
                    for n <- 1..share do
                      {:ok, _} = module.lookup_or_start(name, {caller, n}, [init_ms], :infinity)
                    end
                  end)
                end)
                |> Task.await_many(:infinity)
              end)

            us / total
          end)
        end
      )
    end
  end

  defp shapes do
    [
      {"integer", & &1},
      {"snowflake", &(0x1000_0000_0000_0000 + &1 * 4_194_304)},
      {"11-byte string", &("+1555" <> String.pad_leading("#{&1}", 6, "0"))},
      {"36-byte string", &uuid/1},
      {"{:user, int}", &{:user, &1}},
      {"{:user, string}", &{:user, "name#{&1}"}},
      {"{int, int, int}", &{&1, &1 + 1, &1 + 2}},
      {"small map", &%{guild: &1, user: &1 * 7}}
    ]
  end

  defp uuid(n) do
    <<a::binary-8, b::binary-4, c::binary-4, d::binary-4, e::binary-12>> =
      :crypto.hash(:md5, <<n::64>>) |> Base.encode16(case: :lower)

    Enum.join([a, b, c, d, e], "-")
  end

  defp with_registries(modules \\ [GenRegistry, Bench.EtsRegistry], fun) do
    # Workers that end with their registry are no matter of this process.
    Process.flag(:trap_exit, true)

    rivals =
      for module <- modules do
        name = Module.concat(module, Under)
        {:ok, pid} = module.start_link(Bench.Worker, name: name)
        {module, name, pid}
      end

    result = fun.(for {module, name, _} <- rivals, do: {module, name})
    for {_, _, pid} <- rivals, do: GenServer.stop(pid, :shutdown, :infinity)
    flush()
    result
  end

  defp flush do
    receive do
      _ -> flush()
    after
      0 -> :ok
    end
  end

  # Ours and theirs in turn.
  defp report(what, [ours, theirs], measure) do
    pairs = for _ <- 1..@rounds, do: {measure.(ours), measure.(theirs)}
    [own, ets] = for index <- [0, 1], do: pairs |> Enum.map(&elem(&1, index)) |> median()
    ratio = pairs |> Enum.map(fn {own, ets} -> ets / own end) |> median()

    [
      String.pad_trailing(what, 26),
      number(own),
      " ours",
      number(ets),
      " ets",
      number(ratio),
      " times"
    ]
    |> IO.puts()
  end

  defp number(value), do: value |> :erlang.float_to_binary(decimals: 1) |> String.pad_leading(10)

  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))
end

Bench.AgainstEts.run()
