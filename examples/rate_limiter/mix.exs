defmodule RateLimiter.MixProject do
  use Mix.Project

  def project do
    [
      app: :rate_limiter,
      version: "0.1.0",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      # Every test starts the application itself, with the settings that it needs.
      aliases: [test: "test --no-start"],
      deps: [{:gen_registry, path: "../.."}],
      releases: [rate_limiter: [include_executables_for: [:unix]]]
    ]
  end

  def application do
    [
      mod: {RateLimiter.Application, []},
      # :inets has the HTTP server.
      extra_applications: [:logger, :inets]
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]
end
