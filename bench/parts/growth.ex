defmodule Bench.Part.Growth do
  @moduledoc false
  # The slowest single insertion, step of a scan and removal among very many, in CPU time: see
  # native/registry_table/benches/growth.rs.

  import Bench

  def run do
    entries = size(10_000_000, 1_000_000)

    for {shape, rivals} <- [{"integer", [GenRegistry, "DashMap"]}, {"UUID", [GenRegistry]}] do
      compare([entries: entries, shape: shape], "µs", rivals, fn rival ->
        arguments = ~w(bench --quiet --locked --package registry_table --bench growth --)
        {output, 0} = System.cmd("cargo", arguments ++ [title(rival), shape, "#{entries}"])

        for line <- String.split(output, "\n", trim: true), into: %{} do
          [what, nanoseconds] = String.split(line, "\t")
          {what, String.to_integer(nanoseconds) / 1_000}
        end
      end)
    end
  end
end
