defmodule Bench.Json do
  @moduledoc false
  # As much JSON as the results need. (OTP has had its own since 27.)

  def write!(path, value), do: File.write!(path, [encode(value), "\n"])

  defp encode(%{} = map) do
    pairs = for {key, value} <- Enum.sort(map), do: [encode("#{key}"), ": ", encode(value)]
    ["{", Enum.intersperse(pairs, ",\n "), "}"]
  end

  defp encode(list) when is_list(list) do
    ["[", list |> Enum.map(&encode/1) |> Enum.intersperse(", "), "]"]
  end

  defp encode(float) when is_float(float),
    do: :erlang.float_to_binary(float, [:compact, decimals: 3])

  defp encode(value) when is_integer(value) or is_boolean(value), do: to_string(value)
  defp encode(text) when is_binary(text), do: [?", String.replace(text, ~r/["\\]/, "\\\\\\0"), ?"]
end

defmodule Bench.Machine do
  @moduledoc false
  # What of a machine its figures depend on.

  def describe do
    %{
      cpu: cpu(),
      cores: System.schedulers_online(),
      memory_gb: memory_gb(),
      os: os(),
      otp: otp(),
      elixir: System.version(),
      rust: first_line("rustc", ["--version"])
    }
  end

  defp cpu, do: from_file("/proc/cpuinfo", ~r/^model name\s*: (.*)$/m)

  defp memory_gb do
    "/proc/meminfo"
    |> from_file(~r/^MemTotal: *(\d+) kB$/m)
    |> String.to_integer()
    |> div(1_000_000)
  end

  defp os do
    from_file("/etc/os-release", ~r/^PRETTY_NAME="?([^"\n]*)"?$/m) <>
      ", " <> first_line("uname", ["-srm"])
  end

  defp otp do
    path = [:code.root_dir(), "releases", System.otp_release(), "OTP_VERSION"]
    path |> Path.join() |> File.read!() |> String.trim()
  end

  defp from_file(path, pattern) do
    [_, found] = Regex.run(pattern, File.read!(path))
    found
  end

  defp first_line(command, arguments) do
    {output, 0} = System.cmd(command, arguments)
    output |> String.split("\n") |> hd()
  end
end
