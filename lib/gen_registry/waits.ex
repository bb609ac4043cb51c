defmodule GenRegistry.Waits do
  @moduledoc false
  # Who is busy with a start or an end, and who waits for whom on behalf of that, in the whole VM: in the NIF.

  alias GenRegistry.Native

  @typedoc "The number of a wait, see `begin_wait/3`. No other one has it."
  @type wait :: pos_integer

  @doc """
  The first of these processes that is busy, of any registry of this VM: with a start, or, as
  `{:ending, pid}`, with its own end; or, as `{:died, pid}`, that is dead, and had begun a start. `nil` if
  none is, or if one before a starter is a worker of that registry, whose own start is over. `:idle` if no
  process at all is busy.
  """
  @spec busy_among([pid]) :: pid | {:ending | :died, pid} | nil | :idle
  def busy_among(way), do: Native.busy_among(way)

  @doc """
  The calling process is about to wait for an id on behalf of a busy process: one that starts a worker, or
  is being stopped. Answers the number of the wait, and the circle that is closed by that, or `[]`: each that
  waits in it, with the busy process on whose behalf it does.

  The wait is over with `end_wait/2`, or when that process is not busy any more. Of ids of which the VM
  makes the hash, nothing is noted: the number is `nil` then.
  """
  @spec begin_wait(pid, GenRegistry.name(), term) ::
          {wait | nil, [{waiting :: pid, busy :: pid}]}
  def begin_wait(by, name, id), do: Native.begin_wait(by, name, id)

  @doc "A circle in which the calling process waits, as `begin_wait/3`, and none of these others."
  @spec circle(others :: [pid]) :: [{waiting :: pid, busy :: pid}]
  def circle(others), do: Native.circle(others)

  @doc """
  What is waited for in a circle of these processes, by each of them; or `[]` if they do not wait in one. With
  whether that registry has heard of it, see `heard/2`.
  """
  @spec circle_ids([pid]) :: [{{GenRegistry.name(), id :: term}, heard? :: boolean}]
  def circle_ids(circle), do: Native.circle_ids(circle)

  @doc """
  If these processes wait in a circle, the first of them waits no more. Returns what is waited for, as
  `circle_ids/1` does. Of all in a circle that call this, one gets it.
  """
  @spec break_circle([pid]) :: [{GenRegistry.name(), id :: term}]
  def break_circle(circle), do: Native.break_circle(circle)

  @doc "The registry has heard what a process waits for, and has not answered at once."
  @spec heard(pid, wait | nil) :: :ok
  def heard(pid, wait), do: Native.hear_wait(pid, wait)

  @doc "A process of this VM has what it waited for. It may have begun another wait since."
  @spec end_wait(pid, wait | nil) :: :ok
  def end_wait(pid, wait), do: Native.end_wait(pid, wait)
end
