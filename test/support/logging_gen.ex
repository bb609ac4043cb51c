defmodule LoggingGen do
  @moduledoc """
  A `:gen_module`: makes calls as `GenServer` does, and has its caller keep what it was called with.
  """

  def call(server, message, timeout) do
    Process.put(__MODULE__, [{server, message, timeout} | Process.get(__MODULE__, [])])
    Process.get(:canned) || GenServer.call(server, message, timeout)
  end

  @doc "What the calling process has called since it last asked."
  def calls, do: Enum.reverse(Process.delete(__MODULE__) || [])
end
