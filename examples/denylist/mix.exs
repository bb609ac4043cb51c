defmodule Denylist.MixProject do
  use Mix.Project

  def project do
    [
      app: :denylist,
      version: "0.1.0",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      # Every test starts the application itself, on a data directory of its own.
      aliases: [test: "test --no-start"],
      deps: [{:gen_registry, path: "../.."}]
    ]
  end

  def application do
    [
      mod: {Denylist.Application, []},
      extra_applications: [:logger, :mnesia]
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]
end
