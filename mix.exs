Code.require_file("native/build.exs", __DIR__)

defmodule GenRegistry.MixProject do
  use Mix.Project

  # The version stands in one place.
  [_, version] = Regex.run(~r/^version = "(.*)"/m, File.read!(Path.join(__DIR__, "Cargo.toml")))
  @version version

  def project do
    [
      app: :gen_registry,
      version: @version,
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      compilers: [:gen_registry_nif | Mix.compilers()],
      description: "A local registry of processes: one per id, started on first use",
      package: package(),
      docs: docs(),
      aliases: [docs: "cmd script/docs"]
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp docs do
    [
      main: "readme",
      extras: [
        "README.md",
        "guides/from_gen_registry.md",
        "guides/from_registry.md",
        "guides/how_it_works.md",
        "guides/in_production.md",
        "guides/observability.md",
        "guides/testing.md",
        "BENCHMARKS.md",
        "RELIABILITY.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "LICENSE"
      ],
      groups_for_extras: [Guides: ~r"guides/"],
      # Named in texts, but no part of the API.
      skip_code_autolink_to: ["GenRegistry.Native"],
      # The pictures of the guides twice: README.md finds them by another path than the guides do.
      assets: %{
        "guides/images" => "images",
        "./guides/images" => "guides/images",
        "bench/results" => "bench/results"
      }
    ]
  end

  defp package do
    [
      licenses: ["MIT"],
      # What it takes the place of. The project's own address is not public yet.
      links: %{"gen_registry 1.x" => "https://github.com/discord/gen_registry"},
      # priv/prebuilt is script/prebuilt's work.
      files:
        ~w(lib native guides Cargo.toml Cargo.lock mix.exs .formatter.exs) ++
          ~w(README.md CHANGELOG.md SECURITY.md LICENSE) ++
          Enum.filter(~w(priv/prebuilt), &File.exists?/1)
    ]
  end
end
