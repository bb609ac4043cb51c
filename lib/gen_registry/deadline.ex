defmodule GenRegistry.Deadline do
  @moduledoc false
  # Until when something is waited for, by the VM's clock, in milliseconds.

  @type t :: integer | :infinity

  @doc "The deadline of a timeout that begins now."
  @spec after_timeout(timeout) :: t
  def after_timeout(:infinity), do: :infinity
  def after_timeout(timeout) when is_integer(timeout), do: now() + timeout

  @doc "The time that is left until a deadline."
  @spec left(t) :: timeout
  def left(:infinity), do: :infinity
  def left(deadline) when is_integer(deadline), do: max(deadline - now(), 0)

  defp now, do: System.monotonic_time(:millisecond)
end
