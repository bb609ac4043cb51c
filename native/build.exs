# Puts the NIF into the application's priv directory: the one in priv/prebuilt that fits, or else one
# that Cargo builds. mix.exs loads this, as Mix needs it before anything in lib/ is compiled. What is
# public is for script/prebuilt, which makes priv/prebuilt, and the tests.
defmodule Mix.Tasks.Compile.GenRegistryNif do
  @moduledoc false
  use Mix.Task.Compiler

  # In an umbrella, run in the application's directory and not in the umbrella's.
  @recursive true

  @impl true
  def run(args) do
    check_word_size(:erlang.system_info(:wordsize))
    remove_copied()
    prebuilt = prebuilt()
    inputs = inputs(prebuilt)

    if "--force" not in args and File.exists?(library()) and
         File.read(manifest()) == {:ok, inputs} do
      {:noop, []}
    else
      install(prebuilt)
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

  # Terms are read as words of this size.
  def check_word_size(8), do: :ok

  def check_word_size(bytes) do
    Mix.raise("GenRegistry needs a 64-bit Erlang VM, and this one has #{8 * bytes} bits.")
  end

  # The sources that the library is built from. Of content, not of times: an update may bring
  # files older than the last build.
  def sources do
    files = ["Cargo.toml", "Cargo.lock" | Path.wildcard("native/**/*.{rs,toml}")]
    hex(:erlang.md5(:erlang.term_to_binary(Enum.map(files, &{&1, File.read!(&1)}))))
  end

  # `{:error, posix}` if it cannot be read.
  def sha256(path) do
    # Since 1.15, Mix hides the applications of OTP that the library itself does not use.
    if function_exported?(Mix, :ensure_application!, 1),
      do: apply(Mix, :ensure_application!, [:crypto])

    with {:ok, content} <- File.read(path), do: hex(:crypto.hash(:sha256, content))
  end

  # Rust's name of the system that the VM says it was built for.
  def target(architecture) do
    [cpu | _] = parts = String.split(architecture, "-")
    last = List.last(parts)

    cond do
      "linux" in parts and last in ["gnu", "musl"] ->
        "#{cpu}-unknown-linux-#{last}"

      String.starts_with?(last, "darwin") ->
        String.replace(cpu, "arm64", "aarch64") <> "-apple-darwin"

      true ->
        architecture
    end
  end

  defp hex(hash), do: Base.encode16(hash, case: :lower)

  defp manifest, do: Path.join(Mix.Project.manifest_path(), "compile.gen_registry_nif")

  # `:erlang.load_nif/2` wants `.so` on macOS too, where Cargo makes a `.dylib`.
  defp library do
    extension = if match?({:win32, _}, :os.type()), do: ".dll", else: ".so"
    Path.join(priv(), "native/gen_registry_nif" <> extension)
  end

  defp priv, do: Path.join(Mix.Project.app_path(), "priv")

  # What decides what the library is.
  defp inputs({:use, _library, sha256}), do: sha256

  defp inputs({:build, _reason}) do
    settings = Enum.map(~w(RUSTFLAGS CARGO_BUILD_TARGET), &System.get_env/1)
    :erlang.md5(:erlang.term_to_binary({sources(), settings}))
  end

  # The prebuilt library, if it fits, or why there has to be a build.
  defp prebuilt do
    architecture = List.to_string(:erlang.system_info(:system_architecture))
    target = System.get_env("CARGO_BUILD_TARGET") || target(architecture)
    directory = Path.join("priv/prebuilt", target)
    record = Path.join(directory, "built.toml")
    library = Path.join(directory, "gen_registry_nif.so")

    cond do
      System.get_env("GEN_REGISTRY_BUILD") in ["1", "true"] ->
        {:build, "GEN_REGISTRY_BUILD is set"}

      not File.exists?(record) ->
        {:build, "there is no prebuilt library for #{target}"}

      not loads?(value(record, "nif_version")) ->
        {:build, "the prebuilt library needs another NIF version than this VM's"}

      value(record, "sources") != sources() ->
        {:build, "the prebuilt library was built from other sources than these"}

      value(record, "sha256") != sha256(library) ->
        {:build, "the prebuilt library is damaged: its SHA-256 is not the recorded one"}

      true ->
        {:use, library, value(record, "sha256")}
    end
  end

  # `nil` if the record does not say.
  defp value(record, key) do
    with [_, value] <- Regex.run(~r/^#{key} = "([^"]+)"/m, File.read!(record)), do: value
  end

  # A VM loads what was built for its own NIF version, or for an earlier one with the same major.
  defp loads?(nil), do: false

  defp loads?(version) do
    [major, minor] = numbers(version)
    [vm_major, vm_minor] = numbers(List.to_string(:erlang.system_info(:nif_version)))
    vm_major == major and vm_minor >= minor
  end

  defp numbers(version), do: version |> String.split(".") |> Enum.map(&String.to_integer/1)

  defp install({:use, library, _sha256}) do
    Mix.shell().info(
      "Using the prebuilt Rust part of gen_registry in #{Path.dirname(library)} " <>
        "(GEN_REGISTRY_BUILD=1 builds it instead)"
    )

    put(library)
  end

  defp install({:build, reason}), do: put(cargo_build(reason))

  defp put(built) do
    # Where the sources have a priv directory, Mix links to it. A directory in its place keeps
    # the library out of the sources.
    with {:ok, _} <- File.read_link(priv()), do: File.rm_rf!(priv())

    # Renamed into place: a running VM keeps the old file, which it has mapped.
    temporary = "#{library()}.#{System.pid()}"
    File.mkdir_p!(Path.dirname(library()))
    File.cp!(built, temporary)
    File.rename!(temporary, library())
  end

  # Into such a directory Mix copies that of the sources, but there and in a release nobody wants
  # the libraries of other systems.
  defp remove_copied do
    with {:error, _} <- File.read_link(priv()), do: File.rm_rf!(Path.join(priv(), "prebuilt"))
  end

  defp cargo_build(reason) do
    cargo =
      System.find_executable("cargo") ||
        Mix.raise(
          "GenRegistry has a part in Rust that has to be compiled here, because #{reason}, " <>
            "and no `cargo` to do that is in the PATH. #{help()}"
        )

    target_dir = System.get_env("CARGO_TARGET_DIR") || default_target_dir()

    args =
      ~w(build --release --locked --package gen_registry_nif) ++
        ["--manifest-path", Path.expand("Cargo.toml"), "--target-dir", target_dir]

    Mix.shell().info("Compiling the Rust part of gen_registry: #{reason}")

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
    "GenRegistry needs Rust #{value("Cargo.toml", "rust-version")} or later: " <>
      "`cargo --version` tells what you have, https://rustup.rs installs or updates it."
  end
end
