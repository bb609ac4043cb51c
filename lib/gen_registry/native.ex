defmodule GenRegistry.Native do
  @moduledoc false
  # The NIF's functions. `GenRegistry.Table` is their only caller and says what they mean.
  # Nothing else is here, so that nobody ever needs to reload this module.

  @on_load :load

  @typep registry :: reference
  # One that others than its own processes ask for. What is gone has no processes.
  @typep any_registry :: registry | {atom, number :: non_neg_integer}
  @typep parent :: pid | nil

  @spec load :: :ok | {:error, term}
  def load do
    with directory when is_list(directory) <- :code.priv_dir(:gen_registry) do
      directory
      |> :filename.join(~c"native/gen_registry_nif")
      # The NIF checks whether this VM's ports are as it takes them.
      |> :erlang.load_nif(:erlang.ports())
    end
  end

  # Whatever takes an id returns `:sealed` for one that the NIF cannot measure by itself: then it wants
  # what `GenRegistry.Sealed.measured/1` returns in its place. Lookups return the id too: what a caller
  # keeps of its arguments during a call takes a tenth of the time of a lookup.

  # How many words a term has, with those counted before, and the parts of it that the NIF cannot look
  # into.
  @spec measure(term, non_neg_integer) :: {non_neg_integer, [term]}
  def measure(_term, _words), do: not_loaded()

  # What goes before an id that has so many words.
  @spec measured(non_neg_integer) :: reference
  def measured(_words), do: not_loaded()

  # Whether there may be a reference in a term. So it is said of large terms, and of those that the NIF
  # cannot look into.
  @spec refers?(term) :: boolean
  def refers?(_term), do: not_loaded()

  # Reads, by name.

  @spec lookup(atom, term) :: pid | :not_found | :not_running | {:sealed, id :: term}
  def lookup(_name, _id), do: not_loaded()

  @spec lookup_alive(atom, term) :: pid | :not_found | :not_running | {:sealed, id :: term}
  def lookup_alive(_name, _id), do: not_loaded()

  # Those of the first ids that are there, and the other ids. `:sealed` if the first one is.
  @spec lookup_many(atom, [term]) :: {[{term, pid}], [term]} | :not_running | :sealed
  def lookup_many(_name, _ids), do: not_loaded()

  @spec lookup_id(atom, pid) :: {:ok, term} | :not_found | :not_running
  def lookup_id(_name, _pid), do: not_loaded()

  @spec count(atom) :: non_neg_integer | :not_running
  def count(_name), do: not_loaded()

  @spec guests(atom) :: non_neg_integer | :not_running
  def guests(_name), do: not_loaded()

  # The process alone if its id is too large to be taken at once.
  @spec sample(atom) :: {term, pid} | pid | nil | :not_running
  def sample(_name), do: not_loaded()

  @spec scan(atom, non_neg_integer) ::
          {[{term, pid}], non_neg_integer | :done} | :not_running
  def scan(_name, _cursor), do: not_loaded()

  @spec scan_children(atom, non_neg_integer) ::
          {[{term, pid}], non_neg_integer | :done} | :not_running
  def scan_children(_name, _cursor), do: not_loaded()

  # Whether what is given up is freed. Once that is `:stopped`, one running registry's server has been
  # sent `:reclaiming_stopped`.
  @spec reclaiming :: :ok | :stopped
  def reclaiming, do: not_loaded()

  # The names of those that run.
  @spec registries :: [atom]
  def registries, do: not_loaded()

  # Whether one of this name runs, or the last one was killed.
  @spec expected?(term) :: boolean
  def expected?(_name), do: not_loaded()

  @spec owner(atom) :: pid | nil
  def owner(_name), do: not_loaded()

  @spec alive(term) :: boolean
  def alive(_pid), do: not_loaded()

  @spec local(term) :: boolean
  def local(_pid), do: not_loaded()

  @spec id?(term) :: boolean | :sealed
  def id?(_term), do: not_loaded()

  # Writes by name, of which late ones do no harm.

  @spec release(atom, term) :: :ok | :not_found | :not_running | :sealed
  def release(_name, _id), do: not_loaded()

  # By what `open` returned: writes, and what its owner asks.

  # The process that has it open, if that is another one and alive.
  @spec open(atom, non_neg_integer | :infinity) :: registry | pid | :dead
  def open(_name, _max_children), do: not_loaded()

  @spec publish(registry) :: :ok
  def publish(_registry), do: not_loaded()

  @spec seal(registry) :: :ok
  def seal(_registry), do: not_loaded()

  @spec close(registry) :: :ok
  def close(_registry), do: not_loaded()

  @spec end_in_order(registry) :: :ok
  def end_in_order(_registry), do: not_loaded()

  @spec register(registry, term, pid, parent) ::
          :ok | :dead | :closed | :pid_taken | {:id_taken, pid} | :id_too_large | :sealed
  def register(_registry, _id, _pid, _parent), do: not_loaded()

  @spec retire(registry, term) :: {pid, parent} | {:guest, pid} | :not_found | :sealed
  def retire(_registry, _id), do: not_loaded()

  @spec track(any_registry, pid, parent) :: boolean
  def track(_registry, _pid, _parent), do: not_loaded()

  @spec refuse(any_registry, pid, parent) :: boolean
  def refuse(_registry, _pid, _parent), do: not_loaded()

  @spec known(registry, pid) :: boolean
  def known(_registry, _pid), do: not_loaded()

  @spec processes(any_registry) :: [{pid, parent}]
  def processes(_registry), do: not_loaded()

  # A worker is told to end by what is left of its registry.
  @spec told(any_registry, pid) :: :ok
  def told(_registry, _pid), do: not_loaded()

  @spec ends?(registry, term, pid) :: boolean | :sealed
  def ends?(_registry, _id, _pid), do: not_loaded()

  @spec killed_at(any_registry, milliseconds :: integer) :: integer
  def killed_at(_registry, _now), do: not_loaded()

  @spec has_id(any_registry, pid) :: boolean
  def has_id(_registry, _pid), do: not_loaded()

  # The process that ends what a registry leaves.

  @spec sweeper(any_registry) :: pid | nil
  def sweeper(_registry), do: not_loaded()

  # Whether the registry is not gone: then the calling process is its sweeper, and tracked.
  @spec set_sweeper(any_registry) :: boolean
  def set_sweeper(_registry), do: not_loaded()

  @spec key(registry) :: {atom, number :: non_neg_integer}
  def key(_registry), do: not_loaded()

  # Registries of the name that were opened before and are not gone yet, and what they have left.

  @spec earlier(registry) :: [{atom, number :: non_neg_integer}]
  def earlier(_registry), do: not_loaded()

  @spec note_busy(registry) :: :ok
  def note_busy(_registry), do: not_loaded()

  # `:none` if there are no earlier ones.
  @spec left(registry, term) :: {:starter, pid} | {pid, parent} | :not_found | :none | :sealed
  def left(_registry, _id), do: not_loaded()

  @spec count_left(registry) :: non_neg_integer
  def count_left(_registry), do: not_loaded()

  # Of one of them.

  @spec scan_guests(any_registry, non_neg_integer) :: {[{term, pid}], non_neg_integer | :done}
  def scan_guests(_registry, _cursor), do: not_loaded()

  @spec release_own(any_registry, term) :: boolean | :sealed
  def release_own(_registry, _id), do: not_loaded()

  @spec starting(any_registry) :: [pid]
  def starting(_registry), do: not_loaded()

  # What starters say of themselves, and what is known of them all.

  @spec begin_start(registry, term) :: :ok | :closed | :sealed
  def begin_start(_registry, _id), do: not_loaded()

  @spec end_start(any_registry, pid) :: :ok | :closed
  def end_start(_registry, _pid), do: not_loaded()

  # `:idle` if no process at all is busy.
  @spec busy_among([pid]) :: pid | {:ending | :died, pid} | nil | :idle
  def busy_among(_way), do: not_loaded()

  # Who waits for whom. Of a circle, each that waits, with the busy process on whose behalf it does.

  @spec begin_wait(pid, atom, term) :: {pos_integer | nil, [{pid, pid}]}
  def begin_wait(_by, _name, _id), do: not_loaded()

  @spec circle(others :: [pid]) :: [{pid, pid}]
  def circle(_others), do: not_loaded()

  @spec circle_ids([pid]) :: [{{atom, id :: term}, boolean}]
  def circle_ids(_circle), do: not_loaded()

  @spec break_circle([pid]) :: [{atom, id :: term}]
  def break_circle(_circle), do: not_loaded()

  @spec forget_dead(registry, pid) :: :ok
  def forget_dead(_registry, _pid), do: not_loaded()

  @spec hear_wait(term, term) :: :ok
  def hear_wait(_pid, _number), do: not_loaded()

  @spec end_wait(term, term) :: :ok
  def end_wait(_pid, _number), do: not_loaded()

  @spec promise(registry, term, parent) :: boolean | :sealed
  def promise(_registry, _id, _parent), do: not_loaded()

  # How many have started, ended, and ended for want of work.
  @spec ever(registry) :: {non_neg_integer, non_neg_integer, non_neg_integer}
  def ever(_registry), do: not_loaded()

  @spec ended_idle(registry) :: :ok
  def ended_idle(_registry), do: not_loaded()

  @spec leave_place(registry, child :: pid) :: boolean
  def leave_place(_registry, _child), do: not_loaded()

  @spec inherit_place(registry, child :: pid, parent :: pid) :: boolean
  def inherit_place(_registry, _child, _parent), do: not_loaded()

  @spec give_back(any_registry, pid) :: :ok
  def give_back(_registry, _parent), do: not_loaded()

  @spec memory(registry) :: non_neg_integer
  def memory(_registry), do: not_loaded()

  # Terms that pass through a process without staying in its heap. The large ones are copied on a
  # dirty scheduler.

  @spec hold(term) :: held :: reference
  def hold(_term), do: not_loaded()

  @spec hold_large(term) :: held :: reference
  def hold_large(_term), do: not_loaded()

  @spec take(held :: reference) :: {:ok, term} | :gone
  def take(_held), do: not_loaded()

  @spec take_large(held :: reference) :: {:ok, term} | :gone
  def take_large(_held), do: not_loaded()

  @spec let_go(held :: reference) :: :ok
  def let_go(_held), do: not_loaded()

  defp not_loaded, do: :erlang.nif_error(:nif_not_loaded)
end
