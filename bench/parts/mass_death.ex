defmodule Bench.Part.MassDeath do
  @moduledoc false
  # All workers are killed at once: how long until the count is 0, what a lookup costs meanwhile, and
  # how long it takes to start them all again.
  #
  # The reader, and who asks for the count, have a high priority: they would else wait in line with
  # thousands of dying processes, which is the VM's cost and not the table's.

  import Bench
  alias Bench.{EtsRegistry, Ids}

  def run do
    workers = size(100_000, 20_000)
    Process.flag(:priority, :high)

    compare([workers: workers], "ms", [GenRegistry, EtsRegistry], fn rival ->
      with_registries([rival], fn ->
        fill(rival, 1..workers)
        settle()
        reader = read(rival, Ids.probes(& &1, 1..workers, 1_000))
        before = for _ <- 1..20, do: batch(reader)
        keep_reading(reader)
        kill_all(rival)
        meanwhile = enough(reader)

        settle()
        restart = fill(rival, 1..workers)
        settle()
        deaths = kill_all(rival)

        %{
          "until the count is 0" => deaths / 1.0e6,
          "restart of all" => restart / 1.0e6,
          {"lookup before", "ns"} => median(before),
          {"lookup meanwhile", "ns"} => meanwhile
        }
      end)
    end)
  end

  defp kill_all(rival) do
    pids = for {_id, pid} <- rival.to_list(name(rival)), do: pid
    begun = now()
    Enum.each(pids, &Process.exit(&1, :kill))
    until_none(rival)
    now() - begun
  end

  # Asked every millisecond: it takes hundreds of them.
  defp until_none(rival) do
    receive do
    after
      1 -> if rival.count(name(rival)) > 0, do: until_none(rival)
    end
  end

  ## The reader

  defp read(rival, probes) do
    Process.spawn(fn -> answer(rival, :erlang.binary_to_term(probes)) end, [
      :link,
      priority: :high
    ])
  end

  defp answer(rival, ids) do
    receive do
      {:batch, from} ->
        send(from, {:ns, time(rival, ids)})
        answer(rival, ids)

      :keep_reading ->
        batches = until_enough(rival, ids, [])

        receive do
          {:enough, from} -> send(from, {:ns, Enum.sum(batches) / length(batches)})
        end
    end
  end

  defp until_enough(rival, ids, batches) do
    batches = [time(rival, ids) | batches]
    {:message_queue_len, length} = Process.info(self(), :message_queue_len)
    if length == 0, do: until_enough(rival, ids, batches), else: batches
  end

  defp time(rival, ids) do
    begun = now()
    each(rival, name(rival), ids)
    (now() - begun) / length(ids)
  end

  # Found or not: they are dying.
  for rival <- [GenRegistry, EtsRegistry] do
    defp each(unquote(rival), name, [id | ids]) do
      {_, _} = unquote(rival).lookup(name, id)
      each(unquote(rival), name, ids)
    end
  end

  defp each(_rival, _name, []), do: :ok

  defp batch(reader) do
    send(reader, {:batch, self()})
    answered()
  end

  defp keep_reading(reader), do: send(reader, :keep_reading)

  defp enough(reader) do
    send(reader, {:enough, self()})
    answered()
  end

  defp answered do
    receive do
      {:ns, ns} -> ns
    end
  end
end
