defmodule GenRegistry.Table do
  @moduledoc false
  # The table of a registry: ids to pids, in the NIF. Reads go by the registry's name and run in
  # their caller; writes go by the handle that `open/1` gave, so that a late one of a registry that
  # is gone can never reach its successor.

  alias GenRegistry.{Earlier, Native, Sealed}

  @typedoc "One registry's table, from `open/1` until the registry is gone."
  @type t :: reference

  @typedoc "A registry's table, for whoever comes after that. What is gone has no processes."
  @type key :: {GenRegistry.name(), number :: non_neg_integer}

  @typedoc """
  Who started a process: its starter, or nobody, for starters and the server itself. A guest, which
  took its id by itself, is its own.
  """
  @type parent :: pid | nil

  @doc "Raises if the native library could not be loaded."
  @spec loaded! :: :ok
  def loaded! do
    unless Code.ensure_loaded?(Native) do
      raise "the native library of GenRegistry could not be loaded, as the log says. " <>
              "An escript is a single file, from which no native library can be loaded: " <>
              "make a release instead, or run it with mix"
    end

    :ok
  end

  @doc "The process of an id. It may be dead if it died within the last microseconds."
  @spec lookup(GenRegistry.name(), term) :: {:ok, pid} | {:error, :not_found}
  def lookup(name, id) do
    case Native.lookup(name, id) do
      # The NIF returns the bare pid: the tuple is cheaper to make here than there.
      pid when is_pid(pid) -> {:ok, pid}
      :not_found -> {:error, :not_found}
      {:sealed, id} -> lookup(name, Sealed.measured(id))
      :not_running -> not_running(name)
    end
  end

  @doc "The process of an id, if it is alive."
  @spec lookup_alive(GenRegistry.name(), term) :: {:ok, pid} | {:error, :not_found}
  def lookup_alive(name, id) do
    case Native.lookup_alive(name, id) do
      # The NIF returns the bare pid: the tuple is cheaper to make here than there.
      pid when is_pid(pid) -> {:ok, pid}
      :not_found -> {:error, :not_found}
      {:sealed, id} -> lookup_alive(name, Sealed.measured(id))
      :not_running -> not_running(name)
    end
  end

  @doc "Those of these ids that have a process, with it, in their order."
  @spec lookup_many(GenRegistry.name(), [term]) :: [{term, pid}]
  def lookup_many(name, ids) do
    case Native.lookup_many(name, ids) do
      {entries, []} -> entries
      {entries, rest} -> entries ++ lookup_many(name, rest)
      :sealed -> lookup_sealed(name, ids)
      :not_running -> not_running(name)
    end
  end

  defp lookup_sealed(name, [id | rest]) do
    case lookup(name, id) do
      {:ok, pid} -> [{id, pid} | lookup_many(name, rest)]
      {:error, :not_found} -> lookup_many(name, rest)
    end
  end

  @doc """
  The id of a process, also if that is being stopped, or is dead and among the last that the table
  has forgotten.
  """
  @spec lookup_id(GenRegistry.name(), pid) :: {:ok, term} | {:error, :not_found}
  def lookup_id(name, pid) do
    case Native.lookup_id(name, pid) do
      {:ok, _id} = found -> found
      :not_found -> {:error, :not_found}
      :not_running -> not_running(name)
    end
  end

  @doc "How many entries there are."
  @spec count(GenRegistry.name()) :: non_neg_integer
  def count(name) do
    with :not_running <- Native.count(name), do: not_running(name)
  end

  @doc "How many entries are not guests'."
  @spec count_children(GenRegistry.name()) :: non_neg_integer
  def count_children(name) do
    with guests when is_integer(guests) <- Native.guests(name),
         count when is_integer(count) <- Native.count(name) do
      # Guests may have come and gone in between.
      max(count - guests, 0)
    else
      :not_running -> not_running(name)
    end
  end

  @doc "One entry at random, or `nil`."
  @spec sample(GenRegistry.name()) :: {term, pid} | nil
  def sample(name) do
    case Native.sample(name) do
      :not_running -> not_running(name)
      pid when is_pid(pid) -> with_id(name, pid)
      entry -> entry
    end
  end

  defp with_id(name, pid) do
    case lookup_id(name, pid) do
      {:ok, id} -> {id, pid}
      # It has ended since, and is forgotten.
      {:error, :not_found} -> sample(name)
    end
  end

  @doc "Some hundred entries, and where to go on. It raises if another registry has the name by now."
  @spec scan(GenRegistry.name(), place | :start) :: {[{term, pid}], place | :done}
  def scan(name, place), do: scan(name, place, &Native.scan/2)

  @typedoc "How far a scan has come, and the process of the registry that it is of."
  @opaque place :: {pid, cursor :: non_neg_integer}

  defp scan(name, :start, scan), do: scan(name, {owner(name), 0}, scan)

  defp scan(name, {owner, cursor}, scan) do
    with {entries, next} <- scan.(name, cursor), true <- owner(name) == owner do
      {entries, if(next == :done, do: :done, else: {owner, next})}
    else
      _ -> not_running(name)
    end
  end

  @doc "Folds over the entries, some hundreds at a time."
  @spec reduce_chunks(GenRegistry.name(), acc, ([{term, pid}], acc -> acc)) :: acc
        when acc: term
  def reduce_chunks(name, acc, fun), do: reduce_chunks(name, acc, fun, &Native.scan/2, :start)

  @doc "As `reduce_chunks/3`, without the guests."
  @spec reduce_children(GenRegistry.name(), acc, ([{term, pid}], acc -> acc)) :: acc
        when acc: term
  def reduce_children(name, acc, fun) do
    reduce_chunks(name, acc, fun, &Native.scan_children/2, :start)
  end

  defp reduce_chunks(name, acc, fun, scan, place) do
    case scan(name, place, scan) do
      {entries, :done} -> fun.(entries, acc)
      {entries, place} -> reduce_chunks(name, fun.(entries, acc), fun, scan, place)
    end
  end

  @doc """
  Every process of a registry: workers, also those that are being stopped, and what starts have left, with
  their parents; and starters, the sweeper, and the server, which have none. Guests are not among them.
  """
  @spec processes(t | key) :: [{pid, parent}]
  def processes(table), do: Native.processes(table)

  @doc "The names of all registries that run on this node, in no order."
  @spec registries :: [GenRegistry.name()]
  def registries, do: Native.registries()

  @doc """
  Whether a registry of this name runs, or the last one was killed, so that its supervisor will start
  another one. Not if there never was one, or if the last one ended in order.
  """
  @spec expected?(GenRegistry.name()) :: boolean
  def expected?(name), do: Native.expected?(name)

  @doc "The process that opened the table of this name, whoever has the name itself by now."
  @spec owner(GenRegistry.name()) :: pid | nil
  def owner(name), do: Native.owner(name)

  @doc """
  Whether a pid is one of this VM, and its process alive. `Process.alive?/1` waits for the end of all
  that the VM has to undo of one that has just died, which may take seconds.
  """
  @spec alive?(pid) :: boolean
  def alive?(pid), do: Native.alive(pid)

  @doc """
  Whether a term is a pid of this VM. One of a node of the same name that is gone has this node's name,
  and is not.
  """
  @spec local?(term) :: boolean
  def local?(pid), do: Native.local(pid)

  @doc "Whether a term may be an id. It may not if it is too large, see `t:GenRegistry.Types.id/0`."
  @spec id?(term) :: boolean
  def id?(term) do
    with :sealed <- Native.id?(term), do: id?(Sealed.measured(term))
  end

  @doc """
  Opens the table of the calling process, which is registered under this name.

  With a bound, it has room for so many children: workers that have a parent, registered or
  promised. One that is registered without a parent takes none of it.

  What earlier registries of the name have left stays in their tables, see `GenRegistry.Earlier`, but for
  guests: those keep their ids, in this one.
  """
  @spec open(GenRegistry.name(), max_children :: non_neg_integer | :infinity) :: t
  def open(name, max_children) do
    table = claim(name, max_children)
    Earlier.take_over(table)
    Native.publish(table)
    table
  end

  defp claim(name, max_children) do
    with server when is_pid(server) <- Native.open(name, max_children) do
      # It has lost its name.
      Process.exit(server, :kill)
      :erlang.yield()
      claim(name, max_children)
    end
  end

  @doc "Has no more workers start. Reads go on."
  @spec seal(t) :: :ok
  def seal(table), do: Native.seal(table)

  @doc "Ends reads too."
  @spec close(t) :: :ok
  def close(table), do: Native.close(table)

  @doc "Notes that the registry ends in order: no other one of its name is `expected?/1` after it."
  @spec end_in_order(t) :: :ok
  def end_in_order(table), do: Native.end_in_order(table)

  @doc """
  Registers a worker for an id that has no live one, or a guest, as its own parent. A guest that has
  the id already becomes the worker.

    * `:dead` - the worker has died already
    * `:closed` - the registry is going down. The worker is registered all the same, a guest is not
    * `:pid_taken` - the process belongs to this registry already
    * `{:id_taken, pid}` - the id has a live worker
    * `:id_too_large` - the term can be no id
  """
  @spec register(t, term, pid, parent) ::
          :ok | :dead | :closed | :pid_taken | {:id_taken, pid} | :id_too_large
  def register(table, id, pid, parent) do
    with :sealed <- Native.register(table, id, pid, parent),
         do: register(table, Sealed.measured(id), pid, parent)
  end

  @doc """
  A worker of a registry that was killed is told to end. What it asks for from then on is asked for in its
  end. Nothing is noted of an id of which the VM makes the hash.
  """
  @spec told(t | key, pid) :: :ok
  def told(table, pid), do: Native.told(table, pid)

  @doc """
  Whether a process is being ended for an id: its worker, or what a start of it has left, of this registry or
  of an earlier one of the name. Of ids of which the VM makes the hash, it may be another one's.
  """
  @spec ends?(t, term, pid) :: boolean
  def ends?(table, id, pid) do
    with :sealed <- Native.ends?(table, id, pid), do: ends?(table, Sealed.measured(id), pid)
  end

  @doc "When a registry was killed: now, in milliseconds of the monotonic time, unless it was told before."
  @spec killed_at(t | key, now :: integer) :: integer
  def killed_at(table, now), do: Native.killed_at(table, now)

  @doc "Whether a process has an id, or is being stopped."
  @spec has_id?(t | key, pid) :: boolean
  def has_id?(table, pid), do: Native.has_id(table, pid)

  @doc """
  Takes an id out of sight, unless it is a guest's. Its worker is still among `processes/1` until it
  is dead.
  """
  @spec retire(t, term) :: {pid, parent} | {:guest, pid} | :not_found
  def retire(table, id) do
    with :sealed <- Native.retire(table, id), do: retire(table, Sealed.measured(id))
  end

  @doc "Frees an id if it is a guest's, whether a registry runs or not."
  @spec release(GenRegistry.name(), term) :: :ok
  def release(name, id) do
    case Native.release(name, id) do
      :ok -> :ok
      # What is too large to be an id.
      :not_found -> :ok
      :sealed -> release(name, Sealed.measured(id))
      :not_running -> not_running(name)
    end
  end

  @doc """
  Makes a process, also one that was a guest, one of `processes/1` until it is dead. Answers whether
  it was none yet.
  """
  @spec track(t | key, pid, parent) :: boolean
  def track(table, pid, parent), do: Native.track(table, pid, parent)

  @doc """
  Makes a worker that was refused with `{:id_taken, pid}` one of `processes/1`. Until it is dead it
  has the place that its starter was promised. Answers whether it has to go: not if it was one of
  them already, or a guest.
  """
  @spec refuse(t | key, pid, starter :: pid) :: boolean
  def refuse(table, pid, starter), do: Native.refuse(table, pid, starter)

  @doc "Whether a process is one of `processes/1`."
  @spec known?(t, pid) :: boolean
  def known?(table, pid), do: Native.known(table, pid)

  @doc "Whether there is room for a child with this id."
  @spec room?(t, term) :: boolean
  def room?(table, id), do: promised(table, id, nil)

  @doc """
  Promises a place to the next child that a starter registers, for this id, if there is room. From
  then on that child has the place, until it is dead.

  A promise that the starter has already is kept for it.
  """
  @spec promise(t, term, starter :: pid) :: boolean
  def promise(table, id, starter), do: promised(table, id, starter)

  defp promised(table, id, starter) do
    with :sealed <- Native.promise(table, id, starter),
         do: promised(table, Sealed.measured(id), starter)
  end

  @doc "The calling process begins the start of the worker of an id, unless the registry is `:closed`."
  @spec begin_start(t, term) :: :ok | :closed
  def begin_start(table, id) do
    with :sealed <- Native.begin_start(table, id), do: begin_start(table, Sealed.measured(id))
  end

  @doc """
  The start in which a process was is over: what it has left is registered, or gone. `:closed` if somebody
  may wait for that, see `GenRegistry.Earlier`.
  """
  @spec end_start(t | key, pid) :: :ok | :closed
  def end_start(table, pid), do: Native.end_start(table, pid)

  @doc "Who is in a start, and who died in one that is not over."
  @spec starting(t | key) :: [starter :: pid]
  def starting(table), do: Native.starting(table)

  @doc "The process that ends what a registry leaves, if it is alive."
  @spec sweeper(t | key) :: pid | nil
  def sweeper(table) do
    sweeper = Native.sweeper(table)
    if alive?(sweeper), do: sweeper
  end

  @doc "Makes the calling process the sweeper, unless the registry is gone. Then it is not, while that lives."
  @spec set_sweeper(t | key) :: boolean
  def set_sweeper(table), do: Native.set_sweeper(table)

  @doc "By what others than its own processes find a registry."
  @spec key(t) :: key
  def key(table), do: Native.key(table)

  @doc """
  The place of a child is to be that of the next one of its id: it stays taken when the child is dead, until
  it is inherited or given back. Returns whether it has one.
  """
  @spec leave_place(t, child :: pid) :: boolean
  def leave_place(table, child), do: Native.leave_place(table, child)

  @doc "As `promise/3`, of the place that a dead child has left."
  @spec inherit_place(t, child :: pid, starter :: pid) :: boolean
  def inherit_place(table, child, starter), do: Native.inherit_place(table, child, starter)

  @doc "Gives back what a starter was promised and has not used, or the place that a child has left."
  @spec give_back(t | key, starter :: pid) :: :ok
  def give_back(table, starter), do: Native.give_back(table, starter)

  @doc """
  Does what the VM has the table do when a process dies, if that is dead: others may hear of it first.
  """
  @spec forget_dead(t, pid) :: :ok
  def forget_dead(table, pid), do: Native.forget_dead(table, pid)

  @doc "How many workers have started since the table was opened, how many ended, and ended for want of work."
  @spec ever(t) :: {non_neg_integer, non_neg_integer, non_neg_integer}
  def ever(table), do: Native.ever(table)

  @doc "A worker has ended for want of work."
  @spec ended_idle(t) :: :ok
  def ended_idle(table), do: Native.ended_idle(table)

  @doc """
  Whether the memory of what is gone is freed, in all tables of this VM. It is `:stopped` if the system
  refuses what it granted when the VM started, `membarrier(2)`: then a server of a registry is sent
  `:reclaiming_stopped`, once.
  """
  @spec reclaiming :: :ok | :stopped
  def reclaiming, do: Native.reclaiming()

  @doc "About how many bytes it takes, see `GenRegistry.info/1`."
  @spec memory(t) :: non_neg_integer
  def memory(table), do: Native.memory(table)

  @doc "Raises, as reads do of a name under which no registry runs."
  @spec not_running(GenRegistry.name()) :: no_return
  def not_running(name) do
    raise ArgumentError,
          "unknown registry: #{inspect(name)}: no GenRegistry of this name is running on this node"
  end
end
