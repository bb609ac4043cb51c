defmodule Bench.Worker do
  @moduledoc false
  # A process and nothing else: what is measured is the registry.

  def start_link(init_ms \\ 0, register_as \\ nil) do
    :proc_lib.start_link(__MODULE__, :init, [self(), init_ms, register_as])
  end

  # Its end takes so many milliseconds.
  def init(parent, init_ms, {:ends_after, milliseconds}) do
    Process.flag(:trap_exit, true)
    if init_ms > 0, do: Process.sleep(init_ms)
    :proc_lib.init_ack(parent, {:ok, self()})

    receive do
      {:EXIT, _, _} -> Process.sleep(milliseconds)
    end
  end

  # As a `:via` name does it, the process puts itself into an Elixir `Registry`, before its init.
  def init(parent, init_ms, {registry, id}) do
    case Registry.register(registry, id, nil) do
      {:ok, _} ->
        init(parent, init_ms, nil)

      {:error, {:already_registered, pid}} ->
        :proc_lib.init_ack(parent, {:error, {:already_started, pid}})
    end
  end

  def init(parent, init_ms, nil) do
    if init_ms > 0, do: Process.sleep(init_ms)
    :proc_lib.init_ack(parent, {:ok, self()})
    loop()
  end

  defp loop do
    receive do
      _ -> loop()
    end
  end
end
