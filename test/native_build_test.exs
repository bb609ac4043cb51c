defmodule GenRegistry.NativeBuildTest do
  # Which prebuilt library is this system's, and which system has none. `script/scratch` tests what is
  # done with it.
  use ExUnit.Case, async: true

  import Mix.Tasks.Compile.GenRegistryNif, only: [check_word_size: 1, target: 1]

  test "systems that there may be a library for have Rust's names" do
    for {architecture, target} <- %{
          # Debian, and most images
          "x86_64-pc-linux-gnu" => "x86_64-unknown-linux-gnu",
          "x86_64-redhat-linux-gnu" => "x86_64-unknown-linux-gnu",
          "aarch64-unknown-linux-gnu" => "aarch64-unknown-linux-gnu",
          # Alpine
          "x86_64-alpine-linux-musl" => "x86_64-unknown-linux-musl",
          "aarch64-alpine-linux-musl" => "aarch64-unknown-linux-musl",
          "x86_64-apple-darwin22.6.0" => "x86_64-apple-darwin",
          "aarch64-apple-darwin23.1.0" => "aarch64-apple-darwin",
          "arm64-apple-darwin21.0.0" => "aarch64-apple-darwin"
        } do
      assert target(architecture) == target
    end
  end

  test "no other system is taken for one of those" do
    for architecture <- [
          "win32",
          "x86_64-unknown-freebsd14.0",
          "x86_64-pc-kfreebsd-gnu",
          "x86_64-pc-linux-gnux32",
          "x86_64-redhat-linux",
          "armv7l-unknown-linux-gnueabihf",
          "i686-pc-linux-gnu"
        ] do
      refute target(architecture) in ~w(
        x86_64-unknown-linux-gnu x86_64-unknown-linux-musl x86_64-apple-darwin
        aarch64-unknown-linux-gnu aarch64-unknown-linux-musl aarch64-apple-darwin
      )
    end
  end

  test "a VM of 32 bits is refused with a sentence" do
    assert check_word_size(:erlang.system_info(:wordsize)) == :ok
    message = "GenRegistry needs a 64-bit Erlang VM, and this one has 32 bits."
    assert_raise Mix.Error, message, fn -> check_word_size(4) end
  end
end
