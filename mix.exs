defmodule GenRegistry.MixProject do
  use Mix.Project

  @cargo_toml File.read!(Path.join(__DIR__, "Cargo.toml"))

  def project do
    [
      app: :gen_registry,
      version: cargo_toml("version"),
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      compilers: [:gen_registry_nif | Mix.compilers()],
      description: "A local registry of processes: one per id, started on first use",
      package: package()
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end

  # What Elixir and Rust both need stands in one place, the workspace's Cargo.toml.
  def cargo_toml(key) do
    [_, value] = Regex.run(~r/^#{key} = "([^"]+)"/m, @cargo_toml)
    value
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp package do
    [
      licenses: ["MIT"],
      links: %{"Changelog" => "https://hexdocs.pm/gen_registry/changelog.html"},
      files:
        ~w(lib native Cargo.toml Cargo.lock mix.exs .formatter.exs) ++
          ~w(README.md CHANGELOG.md LICENSE)
    ]
  end
end

# Builds the NIF and puts it into the application's priv directory. It is here because
# Mix needs it before anything in lib/ is compiled.
defmodule Mix.Tasks.Compile.GenRegistryNif do
  use Mix.Task.Compiler

  # In an umbrella, run in the application's directory and not in the umbrella's.
  @recursive true

  @impl true
  def run(args) do
    inputs = fingerprint()

    if "--force" not in args and File.exists?(library()) and
         File.read(manifest()) == {:ok, inputs} do
      {:noop, []}
    else
      install(cargo_build())
      File.mkdir_p!(Path.dirname(manifest()))
      File.write!(manifest(), inputs)
      {:ok, []}
    end
  end

  @impl true
  def manifests, do: [manifest()]

  @impl true
  def clean do
    File.rm(library())
    File.rm(manifest())
    File.rm_rf!(default_target_dir())
    :ok
  end

  defp manifest, do: Path.join(Mix.Project.manifest_path(), "compile.gen_registry_nif")

  # `:erlang.load_nif/2` wants `.so` on macOS too, where Cargo makes a `.dylib`.
  defp library do
    extension = if match?({:win32, _}, :os.type()), do: ".dll", else: ".so"
    Path.join(priv(), "native/gen_registry_nif" <> extension)
  end

  defp priv, do: Path.join(Mix.Project.app_path(), "priv")

  # Of content, not of times: an update may bring files older than the last build.
  defp fingerprint do
    sources = ["Cargo.toml", "Cargo.lock" | Path.wildcard("native/**/*.{rs,toml}")]
    settings = Enum.map(~w(RUSTFLAGS CARGO_BUILD_TARGET), &System.get_env/1)
    :erlang.md5(:erlang.term_to_binary({Enum.map(sources, &{&1, File.read!(&1)}), settings}))
  end

  defp cargo_build do
    cargo =
      System.find_executable("cargo") ||
        Mix.raise(
          "GenRegistry has a part in Rust, and no `cargo` to build it is in the PATH. #{help()}"
        )

    target_dir = System.get_env("CARGO_TARGET_DIR") || default_target_dir()

    args =
      ~w(build --release --locked --package gen_registry_nif) ++
        ["--manifest-path", Path.expand("Cargo.toml"), "--target-dir", target_dir]

    Mix.shell().info("Compiling the Rust part of gen_registry")

    # Cargo's words all go to stderr, which is left alone: they show as they come.
    with {_, status} when status != 0 <- System.cmd(cargo, args) do
      Mix.raise("`cargo build` failed with status #{status}, for the reason above. #{help()}")
    end

    release = Path.join([target_dir, System.get_env("CARGO_BUILD_TARGET", ""), "release"])

    ~w(libgen_registry_nif.so libgen_registry_nif.dylib gen_registry_nif.dll)
    |> Enum.map(&Path.join(release, &1))
    |> Enum.find(&File.exists?/1) ||
      Mix.raise(
        "`cargo build` left no shared library in #{release}. For a musl target " <>
          ~s(such as Alpine's, set RUSTFLAGS="-C target-feature=-crt-static" and try again.)
      )
  end

  # Under the build path: a dependency's own folder stays as it was fetched.
  defp default_target_dir, do: Path.join(Mix.Project.app_path(), "cargo")

  defp help do
    "GenRegistry needs Rust #{GenRegistry.MixProject.cargo_toml("rust-version")} or later: " <>
      "`cargo --version` tells what you have, https://rustup.rs installs or updates it."
  end

  defp install(built) do
    # Where the sources have a priv directory, Mix links to it. A copy in its place keeps
    # the library out of the sources; Mix brings later changes into it.
    with {:ok, _} <- File.read_link(priv()) do
      File.rm_rf!(priv())
      File.cp_r!("priv", priv())
    end

    # Renamed into place: a running VM keeps the old file, which it has mapped.
    temporary = "#{library()}.#{System.pid()}"
    File.mkdir_p!(Path.dirname(library()))
    File.cp!(built, temporary)
    File.rename!(temporary, library())
  end
end
