defmodule Bench.Part.BesideAWriter do
  @moduledoc false
  # Lookups by one process while another starts a worker and stops it, without pause. What the
  # writer takes for the two is shown, for the more it writes the more it disturbs.

  import Bench
  alias Bench.{EtsRegistry, Ids, Loops}

  def run do
    for entries <- [1_000, large()] do
      with_registries([GenRegistry, EtsRegistry], fn ->
        Enum.each([GenRegistry, EtsRegistry], &fill(&1, 1..entries))
        settle()
        probes = Ids.probes(& &1, 1..entries, min(entries, 200_000))

        compare([entries: entries], "ns", [GenRegistry, EtsRegistry], fn rival ->
          quiet = read(rival, probes)
          writer = Task.async(fn -> write(rival, 0, now()) end)
          disturbed = read(rival, probes)
          send(writer.pid, :enough)
          written = Task.await(writer, :infinity)
          settle()

          %{
            "lookup when quiet" => quiet,
            "lookup beside a writer" => disturbed,
            "start and stop, the writer" => written
          }
        end)
      end)
    end
  end

  # What a lookup takes, in half a second of them.
  defp read(rival, probes) do
    reader =
      Task.async(fn ->
        chunks = probes |> :erlang.binary_to_term() |> Enum.chunk_every(1_000)
        read(rival, chunks, chunks, 0, now())
      end)

    Task.await(reader, :infinity)
  end

  defp read(rival, [], chunks, read, begun), do: read(rival, chunks, chunks, read, begun)

  defp read(rival, [ids | rest], chunks, read, begun) do
    Loops.hits(rival, name(rival), ids)
    read = read + 1_000
    taken = now() - begun
    if taken < 500_000_000, do: read(rival, rest, chunks, read, begun), else: taken / read
  end

  defp write(rival, written, begun) do
    {:ok, _} = rival.lookup_or_start(name(rival), {:written, written}, [], :infinity)
    :ok = rival.stop(name(rival), {:written, written})

    receive do
      :enough -> (now() - begun) / (written + 1)
    after
      0 -> write(rival, written + 1, begun)
    end
  end
end
