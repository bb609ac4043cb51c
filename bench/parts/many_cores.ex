defmodule Bench.Part.ManyCores do
  @moduledoc false
  # What readers write to memory that other cores read: with the memory of the table made read-only,
  # a write would end the test. See native/registry_table/tests/read_only.rs.

  import Bench

  def run do
    arguments = ~w(test --quiet --locked --package registry_table --test read_only)
    {_output, 0} = System.cmd("cargo", arguments)
    keep([of: "writes to the table's memory"], "writes", GenRegistry, [0])
  end
end
