defmodule GenRegistry.MemoryTest do
  @moduledoc """
  What an id takes goes with its worker, whatever the id is, and although nothing else happens.

  By what the VM says of its own memory, so alone.
  """

  use ExUnit.Case, async: false

  import Lifecycle

  alias GenRegistry.Table

  @mb 1_000_000

  setup context do
    registry = registry(context, worker_module: IdleWorker)
    {:ok, registry: registry}
  end

  # The memory of the VM once it is below that, which nothing but the VM and the library bring about.
  defp await_memory(bytes) do
    until(fn ->
      for pid <- Process.list(), do: :erlang.garbage_collect(pid)
      :erlang.memory(:total) < bytes
    end)
  end

  defp memory do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    :erlang.memory(:total)
  end

  # In a process of its own, which is gone then with all that it had.
  defp elsewhere(fun), do: Task.await(Task.async(fun), :infinity)

  defp large(n), do: :binary.copy(<<n::64>>, div(4 * @mb, 8))

  test "a worker's id goes with it, however many others stay", %{registry: registry} do
    for n <- 1..1_000, do: {:ok, _} = GenRegistry.start(registry, {:user, n})
    before = memory()

    elsewhere(fn ->
      for n <- 1..30 do
        {:ok, worker} = GenRegistry.start(registry, large(n))
        if rem(n, 2) == 0, do: GenRegistry.stop(registry, large(n)), else: kill(worker)
      end
    end)

    await_memory(before + 20 * @mb)
    assert GenRegistry.count(registry) == 1_000
  end

  test "the last ids are freed, though nothing comes after them", %{registry: registry} do
    before = memory()

    elsewhere(fn ->
      # Words, and what the VM has to copy.
      for n <- 1..20, do: {:ok, _} = GenRegistry.start(registry, large(n))
      for n <- 1..10, do: {:ok, _} = GenRegistry.start(registry, {make_ref(), large(n)})
    end)

    assert GenRegistry.info(registry).memory > 100 * @mb
    for worker <- elsewhere(fn -> pids(registry) end), do: kill(worker)
    await_memory(before + 20 * @mb)
  end

  test "the last ids of a registry that ends are freed", %{registry: registry} do
    before = memory()
    elsewhere(fn -> for n <- 1..20, do: {:ok, _} = GenRegistry.start(registry, large(n)) end)
    end_registry(registry)
    await_memory(before + 20 * @mb)
  end

  test "an id keeps no binary alive of which it has a part", %{registry: registry} do
    before = memory()

    elsewhere(fn ->
      for n <- 1..20 do
        request = large(n)
        {:ok, _} = GenRegistry.start(registry, {make_ref(), binary_part(request, 10, 100)})
      end
    end)

    await_memory(before + 20 * @mb)
    assert GenRegistry.count(registry) == 20
  end

  # In the external format a reference without a number begins so, which the VM cannot read back.
  test "nor does one that has bytes as of a reference without a number", %{registry: registry} do
    before = memory()
    nested = fn part -> Enum.reduce(1..40, part, fn _, term -> [term] end) end

    everything =
      {1, -(2 ** 40), 2 ** 3_000, 0.5, [1, 2 | :x], ~c"text", %{a: 1}, &String.length/1}

    beside = [
      make_ref(),
      self(),
      List.first(Port.list()),
      Terms.closure(1),
      <<1::1>>,
      2 ** 80,
      everything
    ]

    elsewhere(fn ->
      for n <- 1..20, wrap <- [nested | Enum.map(beside, fn term -> &{term, n, &1} end)] do
        part = binary_part(<<90, 0, 0, n>> <> large(n), 0, 100)
        {:ok, _} = GenRegistry.start(registry, wrap.({make_ref(), part}))
      end
    end)

    await_memory(before + 40 * @mb)
    assert GenRegistry.count(registry) == 160
  end

  test "an id that is remembered keeps nothing alive", %{registry: registry} do
    before = memory()

    elsewhere(fn ->
      for n <- 1..20 do
        id = {:job, n, :atomics.new(div(4 * @mb, 8), [])}
        {:ok, worker} = GenRegistry.start(registry, id)
        {:ok, ^id} = GenRegistry.lookup_id(registry, worker)
        kill(worker)
        {:ok, ^id} = GenRegistry.lookup_id(registry, worker)
      end
    end)

    await_memory(before + 20 * @mb)
  end

  test "a step of a scan copies one large id at the most", %{registry: registry} do
    elsewhere(fn -> for n <- 1..40, do: {:ok, _} = GenRegistry.start(registry, large(n)) end)
    for n <- 1..40, do: {:ok, _} = GenRegistry.start(registry, n)

    assert elsewhere(fn -> steps(registry, :start) end) == 80
  end

  # How many entries there are, in steps that are looked at.
  defp steps(registry, place) do
    {entries, next} = Table.scan(registry, place)
    assert Enum.count(entries, fn {id, _} -> is_binary(id) end) <= 1
    length(entries) + if next == :done, do: 0, else: steps(registry, next)
  end

  defp pids(registry), do: for({_, pid} <- GenRegistry.to_list(registry), do: pid)

  test "the table says that what is given up is freed" do
    assert Table.reclaiming() == :ok
  end
end
