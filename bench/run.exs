# Runs one part, in a VM of its own, and writes its figures: see script/bench.

for file <- ~w(bench ids worker ets_registry elixir_registry loops json) do
  Code.require_file("support/#{file}.ex", __DIR__)
end

[part, to] = System.argv()
begun = System.monotonic_time(:second)
[{module, _}] = Code.require_file("parts/#{part}.ex", __DIR__)
module.run()

Bench.Json.write!(to, %{
  part: part,
  quick: Bench.quick?(),
  rounds: Bench.rounds(),
  seconds: System.monotonic_time(:second) - begun,
  date: Date.to_iso8601(Date.utc_today()),
  commit: System.fetch_env!("BENCH_COMMIT"),
  machine: Bench.Machine.describe(),
  notes: Bench.notes(),
  figures: Bench.figures()
})
