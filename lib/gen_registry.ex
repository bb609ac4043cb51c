defmodule GenRegistry do
  @moduledoc """
  One process per id.

  `GenRegistry` keeps a process for each of your ids: phone numbers, users, sessions, guilds. It
  starts the process of an id when it is first asked for, finds it from then on, supervises it and
  forgets it when it ends.

      def place_call(sender, recipient) do
        {:ok, denylist} = GenRegistry.lookup_or_start(Denylist, recipient, [recipient])

        if Denylist.allow?(denylist, sender) do
          {:ok, :place_call}
        else
          {:error, :reject_call}
        end
      end

  If a process runs for the recipient, its pid is answered. If not, `Denylist.start_link(recipient)`
  is called, and the new process is registered under the recipient.

  ## A registry in your supervision tree

  A registry has workers of one module, and its name, unless you say otherwise.

      children = [
        {GenRegistry, worker_module: ExampleWorker}
      ]

  To have several registries for one module, name them:

      children = [
        {GenRegistry, worker_module: ExampleWorker, name: ExampleWorker.Read},
        {GenRegistry, worker_module: ExampleWorker, name: ExampleWorker.Write}
      ]

  From then on the name stands where the module stood:
  `GenRegistry.lookup_or_start(ExampleWorker.Read, :some_id)`.

  ## What it promises

    * An id has one live worker at most, through every race of starts, stops, deaths, and restarts
      of the registry itself.
    * `lookup_or_start/4` and `start/4` never answer a process that was dead when they were called.
    * A worker that is slow to start, or crashes in its start, neither delays nor harms another.
    * A worker that ends is forgotten in the course of its exit, by the VM itself: whoever has seen
      the `:DOWN` of a monitor that was set while the worker was alive finds its id free.
    * Reads run in their caller and take no lock (`lookup_id/2` one of many, for the time of a look).

  ## Ids

  An id is any term of up to 16 MB. Two ids are the same when they are `===`: `1` and `1.0` are two
  ids. Those that contain references, funs, bitstrings, integers beyond 64 bits, or pids of other
  nodes are kept as copies by the VM; all others in the form that takes the least room.

  ## Calls, and workers that end by themselves

  `call/4` finds the process of an id, or starts it, calls it, and returns its reply:

      GenRegistry.call(ExampleWorker, :some_id, :ping)

  A pid that was looked up may be gone when it is called. `call/4` then asks the next process, unless
  the request may have been handled.

  A worker that has nothing more to do ends itself with the reason `{:shutdown, :idle}`. Then no `call/4`
  is lost: one that it has not read goes to the next process. For this to hold, a worker that has taken
  a request and has not replied yet must not end so: its caller would ask the next one, which handles the
  request again. Casts and other messages that a worker has not read when it ends are lost, as ever.

  With the timeout of a `GenServer`:

      def handle_call(:ping, _from, state), do: {:reply, :pong, state, 60_000}

      def handle_info(:timeout, state), do: {:stop, {:shutdown, :idle}, state}

  Do not return a timeout of 0 from `init/1`: such a worker ends before it can read a request, and
  `call/4` exits at its own timeout. [Running it in production](in_production.md#idle-ends) has a worker
  that uses a timer.

  ## Names of processes

  `{:via, GenRegistry, {registry, id}}` is a name, as `GenServer`, `Agent`, `Supervisor`,
  `:gen_statem` and all others take it that take `{:via, module, name}`. It reaches the process of
  an id, whoever started it:

      GenServer.call({:via, GenRegistry, {ExampleWorker, :some_id}}, :ping)

  And a process takes it as its own, wherever and under whichever supervisor it runs:

      Agent.start_link(fn -> 0 end, name: {:via, GenRegistry, {ExampleWorker, :counter}})

  Such a process is a guest. It is found, counted, listed and forgotten as any other, and it is true
  of it too that an id has one process: where a worker of the id is being started or stopped, it
  waits for the end of that. But the registry is not its supervisor: `stop/3` answers
  `{:error, :not_supervised}`, it is no child of the registry, it goes on when the registry ends, and
  the next registry of the same name has it under its id again.

  A worker may take the name under which it is being started, for its own use of it:

      def start_link(id) do
        GenServer.start_link(__MODULE__, id, name: {:via, GenRegistry, {__MODULE__, id}})
      end

  It is found from then on, before the end of its init, and is a worker as any other.

  ## When the registry is not running

  While a registry is away, or restarts, calls by its name do as follows. An `ArgumentError` names the
  registry; exits are those of `GenServer.call/3` with this reason, but for those of `call/4` and `cast/4`.

  | call | no registry of the name runs | it ends in order meanwhile | it is killed meanwhile |
  |---|---|---|---|
  | `lookup/2` and other reads | `ArgumentError` | a read of many in steps: `ArgumentError` | the same |
  | `lookup_or_start/4`, `start/4`, `replace/4` | `ArgumentError` | `{:error, :shutdown}` | exit `:killed` |
  | `await/3` | `ArgumentError` | exit `:shutdown` | exit `:killed` |
  | `call/4` | waits if the last one was killed, else `ArgumentError` | exit `{:start_failed, :shutdown}` | waits for the next one |
  | `cast/4` | as `call/4` | `{:error, :shutdown}` | as `call/4` |
  | `stop/3` | `ArgumentError` | `:ok` | exit `:killed` |
  | `register_name/2` | `ArgumentError` | `:no` | exit `:killed` |
  | `info/1` | `ArgumentError` | its result | exit `:killed` |

  A registry that is a pid, or `{name, node}`, makes `lookup_or_start/4`, `start/4`, `stop/3` and `info/1`
  exit where a name raises: with `:noproc`, or `{:nodedown, node}`. `call/4` and `cast/4` exit so for a pid
  and for another node, but wait for the next registry on that node if the last one was killed.

  `stop/3` and `info/1` exit with `:shutdown` if the registry ends in order before it has read the call.

  ## Looking into it

  `info/1` tells what a registry is about. Starts and ends of workers are `:telemetry` events, see
  `GenRegistry.Telemetry`. Workers that fail to start are reported to the log.

  ## Configuration

      config :gen_registry, gen_module: MyGenServer

  The module whose `call/3` makes the calls to a registry's process, at compile time; `GenServer` if
  you set nothing.
  """

  @behaviour GenRegistry.Behaviour

  import Kernel, except: [send: 2]

  import GenRegistry.Options,
    only: [args!: 1, proper_list?: 1, request!: 1, server!: 1, timeout!: 1, validate!: 4]

  alias GenRegistry.{Calls, Options, Request, Server, Table, Types}

  @gen_module Application.compile_env(:gen_registry, :gen_module, GenServer)

  @typedoc "A registry's name: the worker module, or what `:name` says."
  @type name :: atom

  @typedoc "A registry to call: its name, its pid, or its name on another node."
  @type server :: name | pid | {name, node}

  @typedoc "See `start_link/2`."
  @type option ::
          {:name, name}
          | {:max_children, non_neg_integer | :infinity}
          | {:max_starting, pos_integer}
          | {:worker_shutdown, timeout | :brutal_kill}
          | GenServer.option()

  @type options :: [option]

  @typedoc "See `call/4`."
  @type request_option :: {:args, list} | {:timeout, timeout}

  @typedoc "See `info/1`."
  @type info :: %{
          worker_module: module,
          count: non_neg_integer,
          starting: non_neg_integer,
          stopping: non_neg_integer,
          queued: non_neg_integer,
          started: non_neg_integer,
          failed: non_neg_integer,
          refused: non_neg_integer,
          ended: non_neg_integer,
          ended_idle: non_neg_integer,
          starters: non_neg_integer,
          memory: non_neg_integer,
          reclaiming: :ok | :stopped,
          options: keyword
        }

  ## Starting a registry

  @doc """
  A child spec for a registry, for a supervisor's list of children.

  `opts` must have `:worker_module`; the others are those of `start_link/2`. The child's id is the
  registry's name. Without `:worker_module` it raises `KeyError`, and `ArgumentError` if `opts` is no keyword
  list.

      iex> GenRegistry.child_spec(worker_module: ExampleWorker)
      %{
        id: ExampleWorker,
        start: {GenRegistry, :start_link, [ExampleWorker, [name: ExampleWorker]]},
        type: :supervisor,
        shutdown: :infinity
      }
  """
  @spec child_spec([{:worker_module, module} | option]) :: Supervisor.child_spec()
  def child_spec(opts) do
    {worker_module, opts} = pop_worker_module!(opts)
    opts = Keyword.put_new(opts, :name, worker_module)

    %{
      id: opts[:name],
      start: {__MODULE__, :start_link, [worker_module, opts]},
      type: :supervisor,
      shutdown: :infinity
    }
  end

  defp pop_worker_module!(opts) do
    Options.keyword!(opts)
    {Keyword.fetch!(opts, :worker_module), Keyword.delete(opts, :worker_module)}
  end

  @doc """
  Starts a registry for workers of `worker_module`, linked to the caller.

  Options:

    * `:name` - an atom, `worker_module` by default
    * `:max_children` - how many workers there may be, `:infinity` by default. Where there is no room
      for one more, a start answers `{:error, :max_children}`. See "A bound" below.
    * `:max_starting` - how many workers may be in their start at once, a positive integer, 64 by
      default. More of them wait for their turn in the order in which they were asked for, over all
      ids; those that another worker asks for while it starts, or while it is being stopped, do not wait.
    * `:worker_shutdown` - how many milliseconds a worker has to end after it was sent `:shutdown`,
      before it is killed; 5,000 by default, but `:infinity` for workers that are supervisors, which
      are known by what their processes say of themselves (`info/1` says what holds for one of them).
      `:infinity` never kills, `:brutal_kill` does not ask.

  All others go to `GenServer.start_link/3`. Those that it does not know are ignored, with a warning in
  the log.

  ### A bound

  With `:max_children`, a worker takes room from the moment its start begins until it is dead: those
  that are being started count, and those that are being stopped. The bound holds through every
  race: there are never more, and nobody is refused for a worker whose `:DOWN` was seen, or for a
  start whose failure was answered. But a worker whose id a guest took in its start, and a process
  that a failed start left behind, has that start's room until it is dead, which is when
  `:worker_shutdown` is over at the latest. Guests take no room, nor does one that was a guest.

  Whoever asks when there is no room is refused at once, but while it is not known yet what a killed start has
  left: then it waits for that. A start that has to wait for its turn, by
  `:max_starting`, takes its room when that comes, and is refused then if those before it have taken
  all of it. Who asks for an id that is being started or stopped waits for that, and needs room only
  if its own start is to be tried.

      iex> {:ok, _} = GenRegistry.start_link(ExampleWorker, name: ExampleWorker.Two, max_children: 2)
      iex> {:ok, one} = GenRegistry.start(ExampleWorker.Two, 1)
      iex> {:ok, _two} = GenRegistry.start(ExampleWorker.Two, 2)
      iex> GenRegistry.lookup_or_start(ExampleWorker.Two, 3)
      {:error, :max_children}
      iex> {:ok, ^one} = GenRegistry.lookup_or_start(ExampleWorker.Two, 1)
      iex> :ok = GenRegistry.stop(ExampleWorker.Two, 1)
      iex> {:ok, _three} = GenRegistry.lookup_or_start(ExampleWorker.Two, 3)
      iex> GenRegistry.count(ExampleWorker.Two)
      2

  ### Answers

  Answers `{:ok, pid}`, or `{:error, {:already_started, pid}}` if the name is taken. Raises
  `ArgumentError` for a name that is not an atom, for options that are no keyword list, and for
  values that they cannot have; `RuntimeError` if the native library could not be loaded, as in an escript.

  If workers of a killed registry of this name are still alive, it does not wait for them. They are ended, and
  a start waits for the old worker of its id only.

      iex> {:ok, registry} = GenRegistry.start_link(ExampleWorker, name: ExampleWorker.Doc)
      iex> GenRegistry.start_link(ExampleWorker, name: ExampleWorker.Doc)
      {:error, {:already_started, registry}}
  """
  @spec start_link(module, options) :: GenServer.on_start()
  def start_link(worker_module, opts \\ []) do
    {own, gen} = Options.split!(worker_module, opts)
    Table.loaded!()
    # What large ids of requests that are over held is given back.
    gen = Keyword.put_new(gen, :hibernate_after, 1_000)
    GenServer.start_link(Server, {own[:name], worker_module, own}, [{:name, own[:name]} | gen])
  end

  ## One id

  @doc """
  The process of `id`, if there is one.

  It reads in the calling process. Answers `{:ok, pid}` or `{:error, :not_found}`. A worker that is
  just dying may still be answered, until the VM has told the table; `lookup_or_start/4` never
  answers one.

      iex> {:ok, pid} = GenRegistry.lookup_or_start(ExampleWorker, :an_id)
      iex> {:ok, ^pid} = GenRegistry.lookup(ExampleWorker, :an_id)
      iex> GenRegistry.lookup(ExampleWorker, :another_id)
      {:error, :not_found}
  """
  @impl true
  @spec lookup(name, Types.id()) :: {:ok, pid} | {:error, :not_found}
  def lookup(registry, id), do: Table.lookup(registry, id)

  @doc """
  The processes of many ids.

  It reads in the calling process. Answers a list of `{id, pid}`, in the order of `ids`, of those
  that have a process; an id that is there twice is answered twice. For small ids it takes a fraction of
  the time of as many `lookup/2`, for those of kilobytes and for funs somewhat more. The processes are those
  that these would answer. Each is looked up for itself: others may start and end meanwhile.

  Raises `ArgumentError` if `ids` is no list.

      iex> for id <- [:a, :b, :c], do: GenRegistry.lookup_or_start(ExampleWorker, id)
      iex> found = GenRegistry.lookup_many(ExampleWorker, [:c, :nobody, :a])
      iex> for {_id, pid} <- found, do: GenServer.cast(pid, :hello)
      iex> for {id, _pid} <- found, do: id
      [:c, :a]
  """
  @impl true
  @spec lookup_many(name, [Types.id()]) :: [{Types.id(), pid}]
  def lookup_many(registry, ids) do
    validate!(ids, &proper_list?/1, "ids", "a list")
    Table.lookup_many(registry, ids)
  end

  @doc """
  The id of a process: for a worker, who it is; for others, whose `:DOWN` has come.

  It reads in the calling process, in the same time however many there are. Answers `{:ok, id}`, or
  `{:error, :not_found}` for a process that is none of the registry's workers. Raises
  `ArgumentError` if `pid` is no pid.

  A worker is found from when its `start_link` has returned: not in its init, where it has no id
  yet. It keeps its id for as long as it lives: one that is being stopped, which `lookup/2` does not
  find any more, finds itself by `self()` in its `terminate/2`. Also when the whole registry
  ends.

  One that has ended is known for a while, so that a `:DOWN` can be understood. Of small ids, up
  to 48 bytes, the last 256 that ended are known if only such ended, and about 16,000 as a rule; where
  larger ones end too, it is fewer. Those of more than 16 KB are not kept, nor those that the VM keeps as copies and whose
  external term format is larger than 1 KB. They are forgotten when the registry ends. If you must know each, however many end
  at once, set the monitors yourself and keep the ids beside them, in a map from monitor to id. And
  that an id is answered does not say that its worker lives: `lookup/2` of that id does.

      iex> {:ok, pid} = GenRegistry.lookup_or_start(ExampleWorker, {:user, 7})
      iex> GenRegistry.lookup_id(ExampleWorker, pid)
      {:ok, {:user, 7}}
      iex> GenRegistry.lookup_id(ExampleWorker, self())
      {:error, :not_found}
      iex> monitor = Process.monitor(pid)
      iex> Process.exit(pid, :kill)
      iex> receive do
      ...>   {:DOWN, ^monitor, :process, pid, :killed} -> GenRegistry.lookup_id(ExampleWorker, pid)
      ...> end
      {:ok, {:user, 7}}
  """
  @impl true
  @spec lookup_id(name, pid) :: {:ok, Types.id()} | {:error, :not_found}
  def lookup_id(registry, pid) do
    validate!(pid, &is_pid/1, "process", "a pid")
    Table.lookup_id(registry, pid)
  end

  @doc """
  The process of `id`, started if there is none.

  `args` are the arguments of the worker module's `start_link`, as a list. `timeout` is how many
  milliseconds the caller waits for a start, or `:infinity`; after that it exits, as from
  `GenServer.call/3`, and a start that has begun goes on.

  Answers `{:ok, pid}`, or `{:error, reason}` when the process did not start:

    * what `start_link` returned as `{:error, reason}`, or exited with; `:ignore` as
      `{:error, :ignore}`
    * `{exception, stacktrace}` or `{{:nocatch, value}, stacktrace}` if it raised or threw
    * `{:bad_return_value, value}` if it answered anything else
    * `{:not_local, pid}` for a process on another node, `{:already_registered, pid}` for one that
      is registered already
    * `:max_children` if there is no room for one more, see `start_link/2`
    * `{:starter_died, reason}` if the process that ran it was killed
    * `{:deadlock, [{registry, id}]}` if the caller would wait for itself, see below
    * `:shutdown` if the registry ends

  Each of these but `:ignore`, `:max_children`, `{:already_started, pid}` and the last two is also reported to the log, once, at
  level `:error`, with the registry, the id (cut if it is long) and the reason. That happens in a
  process of its own, after the caller has its reply.

  Of all who ask for an id at once, one starts it, and all get its process. If `start_link` itself
  fails, those who wait with equal `args` get the same error; the others' own starts are tried in
  turn. A request by name that is still unread when its `timeout` is over starts nothing. If there is no
  process, it raises `ArgumentError` if `args` is no list, `timeout` no timeout, or
  `id` larger than 16 MB.

  A start that asks for its own id can never go on, nor can starts that ask for each other in a circle, in
  one registry or in several; nor a worker that is being stopped, and asks in its `terminate/2` for what
  waits for its end. (What it has asked for before it was told to end does not count.) One caller of each circle is told so at once. It has first the id that this one asked
  for, then what that one waits for, each once. In doubt nobody is told, and all wait as long as their
  timeouts say: so it is while the start does not visibly wait for one of these processes (it does for an init
  under OTP's behaviours, and for a task in `Task.await/2`, `Task.await_many/2` and streams; from time to time it is
  looked again), for callers
  on other nodes, and for ids of which the VM makes the hash (see `t:GenRegistry.Types.id/0`).

      iex> {:ok, pid} = GenRegistry.lookup_or_start(ExampleWorker, "id", [])
      iex> {:ok, ^pid} = GenRegistry.lookup_or_start(ExampleWorker, "id")
      iex> Process.alive?(pid)
      true
  """
  @impl true
  @spec lookup_or_start(server, Types.id(), args :: list, timeout) :: {:ok, pid} | {:error, term}
  def lookup_or_start(registry, id, args \\ [], timeout \\ 5_000)

  def lookup_or_start(registry, id, args, timeout) when is_atom(registry) do
    with {:error, :not_found} <- Table.lookup_alive(registry, id) do
      call_start(registry, :lookup_or_start, id, args, timeout)
    end
  end

  def lookup_or_start(registry, id, args, timeout) do
    call_start(registry, :lookup_or_start, id, args, timeout)
  end

  @doc """
  Starts the process of `id`, which must not have one.

  As `lookup_or_start/4`, but a process that is there already is answered as
  `{:error, {:already_started, pid}}`: of all who start an id, one knows that it did.

      iex> {:ok, pid} = GenRegistry.start(ExampleWorker, :owned)
      iex> GenRegistry.start(ExampleWorker, :owned)
      {:error, {:already_started, pid}}
  """
  @impl true
  @spec start(server, Types.id(), args :: list, timeout) ::
          {:ok, pid} | {:error, {:already_started, pid}} | {:error, term}
  def start(registry, id, args \\ [], timeout \\ 5_000)

  def start(registry, id, args, timeout) when is_atom(registry) do
    case Table.lookup_alive(registry, id) do
      {:ok, pid} -> {:error, {:already_started, pid}}
      {:error, :not_found} -> call_start(registry, :start, id, args, timeout)
    end
  end

  def start(registry, id, args, timeout), do: call_start(registry, :start, id, args, timeout)

  @doc """
  The process of `id`, once there is one. Starts none.

  Returns `{:ok, pid}` at once if there is a process, else when one is registered: by a start, or because it
  takes its name itself. `timeout` is in milliseconds, or `:infinity`.

  Exits with `{:timeout, call}` when that is over, and with `{reason, call}` when the registry ends, with
  `{GenRegistry, :await, [registry, id, timeout]}` as the `call`. Raises `ArgumentError` if no registry of this name
  runs, if `timeout` is no timeout, and if `id` is larger than 16 MB. In the start or the end of a worker it counts in no
  circle, see `lookup_or_start/4`: any process may take the id.

      iex> waits = Task.async(fn -> GenRegistry.await(ExampleWorker, :late) end)
      iex> {:ok, pid} = GenRegistry.start(ExampleWorker, :late)
      iex> Task.await(waits)
      {:ok, pid}
  """
  @impl true
  @spec await(server, Types.id(), timeout) :: {:ok, pid}
  def await(registry, id, timeout \\ 5_000) do
    server!(registry)
    timeout!(timeout)
    validate_size!(id)

    with true <- is_atom(registry), {:ok, pid} <- Table.lookup_alive(registry, id) do
      {:ok, pid}
    else
      _ -> Calls.await(@gen_module, registry, id, timeout)
    end
  end

  @doc """
  Calls the process of `id`, started if there is none, and returns its reply.

  As `lookup_or_start/4` and `GenServer.call/3` in one, without the race between the two: a process that
  ends by itself in between is no error. Options:

    * `:args` - the arguments of `start_link`, as a list, `[]` by default
    * `:timeout` - how many milliseconds all of it together may take, or `:infinity`; 5,000 by default

  What was gone before it could have seen the request is found or started again, with a growing pause,
  until the timeout. So is a process that ends with `{:shutdown, :idle}` instead of a reply: see "Idle
  ends" in `GenRegistry`. Any other end exits the caller. So no process ever gets a request that another
  one may have handled.

  The caller exits with `{reason, {GenRegistry, :call, [registry, id, request, opts]}}`. The `reason` is

    * `:timeout` if there was no reply in time. A reply that comes later is dropped.
    * `{:start_failed, why}` if a process could not be started; `why` as in the `{:error, why}` of
      `lookup_or_start/4`
    * that of the process, if it ended before it replied
    * `:calling_self` if the caller is the process of `id`
    * `{:nodedown, node}` if the node of the process cannot be reached
    * `:noproc`, or the reason of its end, if `registry` is a pid or on another node and does not run

  A registry that was killed is waited for, as long as the timeout allows: its supervisor starts the next
  one. Not so one that is given as a pid. A name under which no registry ever ran on this node, or whose
  registry ended in order, raises `ArgumentError`. So do options that are unknown or have values that they
  cannot have, and, if it has no process, an id of more than 16 MB.

  If the process is on another node, that is asked first whether it is alive, which takes one more
  message in each direction.

      iex> GenRegistry.call(ExampleWorker, :an_id, :ping)
      :pong
      iex> GenRegistry.call(ExampleWorker, :another_id, :get, args: ["state"], timeout: 1_000)
      "state"
      iex> catch_exit(GenRegistry.call(ExampleWorker, :an_id, :hang, timeout: 10))
      {:timeout, {GenRegistry, :call, [ExampleWorker, :an_id, :hang, [timeout: 10]]}}
  """
  @impl true
  @spec call(server, Types.id(), request :: term, [request_option]) :: reply :: term
  def call(registry, id, request, opts \\ []) do
    server!(registry)
    {args, timeout} = request!(opts)

    case Request.call(registry, id, request, args, timeout) do
      {:ok, reply} -> reply
      {:exit, reason} -> exit({reason, {__MODULE__, :call, [registry, id, request, opts]}})
    end
  end

  @doc """
  Ends the process of `id`, if there is one, and starts another with these arguments.

  Both in one turn: nobody else's start of the id comes in between, and of several who replace it at once each
  gets its own process, in order. The old process is ended first, as `stop/3` does it. From then on the start goes
  on, though the caller may give up. With `:max_children`, the new process has the old one's place. Callers that
  wait for the id meanwhile get the new process.

  `args`, `timeout` and what it raises are as with `lookup_or_start/4`; `timeout` is for both, and the old process
  may take its `:worker_shutdown`. Returns `{:ok, pid}`, or `{:error, reason}` with a reason of
  `lookup_or_start/4`. A failure of the start is returned to this caller only: then the id has no process. The old
  process is left as it is, and the reason is

    * `:not_supervised` if it took its name itself
    * `{:deadlock, [{registry, id}]}` if it is the caller, which cannot wait for its own end

      iex> {:ok, old} = GenRegistry.start(ExampleWorker, {:session, 1})
      iex> {:ok, new} = GenRegistry.replace(ExampleWorker, {:session, 1})
      iex> {Process.alive?(old), GenRegistry.lookup(ExampleWorker, {:session, 1})}
      {false, {:ok, new}}
  """
  @impl true
  @spec replace(server, Types.id(), args :: list, timeout) :: {:ok, pid} | {:error, term}
  def replace(registry, id, args \\ [], timeout \\ 5_000) do
    # Raises if no registry has the name: another process under it is not to be called.
    if is_atom(registry), do: Table.count(registry)
    call_start(registry, :replace, id, args, timeout)
  end

  @doc """
  Casts to the process of `id`, started if there is none.

  The options are those of `call/4`; the timeout is for finding or starting the process. Returns `:ok`
  once the message was sent to a process that was alive, or `{:error, reason}` if none could be started,
  as `lookup_or_start/4` does. What becomes of the message is not known, as with every cast: a process
  that ends with `{:shutdown, :idle}` loses those that it has not read.

  Exits with `{reason, {GenRegistry, :cast, [registry, id, message, opts]}}` at the timeout, and if
  `registry` is a pid or on another node and does not run. Raises `ArgumentError` as `call/4`.

      iex> GenRegistry.cast(ExampleWorker, :an_id, {:put, 1})
      :ok
      iex> GenRegistry.call(ExampleWorker, :an_id, :get)
      1
  """
  @impl true
  @spec cast(server, Types.id(), message :: term, [request_option]) :: :ok | {:error, term}
  def cast(registry, id, message, opts \\ []) do
    server!(registry)
    {args, timeout} = request!(opts)

    with {:exit, reason} <- Request.cast(registry, id, message, args, timeout) do
      exit({reason, {__MODULE__, :cast, [registry, id, message, opts]}})
    end
  end

  @doc """
  Stops the process of `id`.

  Lookups do not find it from now on. It is sent `:shutdown`, killed if it has not ended within the
  registry's `:worker_shutdown`, and a start of the same id waits until it is gone.

  Answers `:ok` once it is gone, `{:error, :not_found}` if there is none, or
  `{:error, :not_supervised}` for a guest, which goes on: see "Names of processes" above. If it is not gone within `timeout`
  milliseconds (by default it is waited for as long as it takes), the caller exits as from
  `GenServer.call/3`. A worker that stops itself gets its reply at once. A caller in a start that the
  stop would wait for gets `{:error, {:deadlock, [{registry, id}]}}`, as from `lookup_or_start/4`.

  Raises `ArgumentError` if `registry` is a name that no process has, or can be none, and if `timeout` is
  no timeout.

      iex> {:ok, pid} = GenRegistry.lookup_or_start(ExampleWorker, :stopped)
      iex> GenRegistry.stop(ExampleWorker, :stopped)
      :ok
      iex> Process.alive?(pid)
      false
      iex> GenRegistry.stop(ExampleWorker, :stopped)
      {:error, :not_found}
  """
  @impl true
  @spec stop(server, Types.id(), timeout) ::
          :ok | {:error, :not_found | :not_supervised | {:deadlock, [{name, Types.id()}]}}
  def stop(registry, id, timeout \\ :infinity) do
    server!(registry)
    timeout!(timeout)

    if Table.id?(id),
      do: Calls.stop(@gen_module, registry, id, timeout),
      else: {:error, :not_found}
  end

  ## Names, as `{:via, GenRegistry, {registry, id}}`

  @doc """
  The process of an id, for `{:via, GenRegistry, {registry, id}}`.

  Answers its pid, which was alive when it was asked for, or `:undefined`. It reads in the calling
  process. Raises `ArgumentError` if the registry is not running, or if the name is none.

      iex> {:ok, pid} = GenRegistry.lookup_or_start(ExampleWorker, :an_id)
      iex> ^pid = GenRegistry.whereis_name({ExampleWorker, :an_id})
      iex> ^pid = GenServer.whereis({:via, GenRegistry, {ExampleWorker, :an_id}})
      iex> GenRegistry.whereis_name({ExampleWorker, :another_id})
      :undefined
  """
  @spec whereis_name({name, Types.id()}) :: pid | :undefined
  def whereis_name(name) do
    {registry, id} = via!(name)

    case Table.lookup_alive(registry, id) do
      {:ok, pid} -> pid
      {:error, :not_found} -> :undefined
    end
  end

  @doc """
  Sends a message to the process of an id, for `{:via, GenRegistry, {registry, id}}`.

  Answers its pid. If there is none, the caller exits with `{:badarg, {name, message}}`, as from
  `:global.send/2`. Raises `ArgumentError` as `whereis_name/1`.

      iex> :yes = GenRegistry.register_name({ExampleWorker, :me}, self())
      iex> GenRegistry.send({ExampleWorker, :me}, :hello)
      iex> receive do: (:hello -> :received)
      :received
      iex> catch_exit(GenRegistry.send({ExampleWorker, :nobody}, :hello))
      {:badarg, {{ExampleWorker, :nobody}, :hello}}
  """
  @spec send({name, Types.id()}, message :: term) :: pid
  def send(name, message) do
    case whereis_name(name) do
      pid when is_pid(pid) ->
        Kernel.send(pid, message)
        pid

      :undefined ->
        exit({:badarg, {name, message}})
    end
  end

  @doc """
  Gives an id to a process that runs already, for `{:via, GenRegistry, {registry, id}}`.

  `pid` is a process of this node, the caller or another. It is a guest of the registry, see "Names
  of processes" above, until it ends or `unregister_name/1` is called.

  Returns `:yes`; or `:no` if the id has a live process, or if the process is dead, has an id in
  this registry or is one of its own. Where the id's process is being started or stopped, it waits
  for the end of that, however long it takes. Raises `ArgumentError` as `whereis_name/1`, if `pid` is no pid of this node,
  and if the id is larger than 16 MB. If the registry ends, it is `:no`; if it is killed, the caller
  exits as from `GenServer.call/3`.

      iex> {:ok, agent} = Agent.start_link(fn -> 0 end)
      iex> GenRegistry.register_name({ExampleWorker, :counter}, agent)
      :yes
      iex> {:ok, ^agent} = GenRegistry.lookup_or_start(ExampleWorker, :counter)
      iex> GenRegistry.register_name({ExampleWorker, :counter}, self())
      :no
      iex> GenRegistry.stop(ExampleWorker, :counter)
      {:error, :not_supervised}
  """
  @spec register_name({name, Types.id()}, pid) :: :yes | :no
  def register_name(name, pid) do
    {registry, id} = via!(name)
    validate!(pid, &(is_pid(&1) and Table.local?(&1)), "process", "a pid of this node")

    case Table.lookup_alive(registry, id) do
      {:ok, _pid} ->
        :no

      {:error, :not_found} ->
        validate_size!(id)
        Calls.register(@gen_module, registry, id, pid)
    end
  end

  @doc """
  Frees the id of a guest, for `{:via, GenRegistry, {registry, id}}`.

  Whoever calls it; the process goes on. Answers `:ok`. Nothing happens if the id has no process, or
  one that the registry started: that keeps its id for as long as it lives. It also works between
  the end of a registry and the start of the next one of the same name, in which the guest is then
  not found; but raises `ArgumentError` if there never was one, or its guests are gone too, and for a
  name that is none.

      iex> :yes = GenRegistry.register_name({ExampleWorker, :me}, self())
      iex> GenRegistry.unregister_name({ExampleWorker, :me})
      :ok
      iex> GenRegistry.lookup(ExampleWorker, :me)
      {:error, :not_found}
  """
  @spec unregister_name({name, Types.id()}) :: :ok
  def unregister_name(name) do
    {registry, id} = via!(name)
    Table.release(registry, id)
  end

  ## All of them

  @doc """
  How many processes there are. It takes the same time for one as for a million.

      iex> {:ok, _} = GenRegistry.lookup_or_start(ExampleWorker, :counted)
      iex> GenRegistry.count(ExampleWorker)
      1
  """
  @impl true
  @spec count(name) :: non_neg_integer
  def count(registry), do: Table.count(registry)

  @doc """
  One `{id, pid}`, each as likely as the others, or `nil` if there is none.

      iex> GenRegistry.sample(ExampleWorker)
      nil
      iex> {:ok, pid} = GenRegistry.lookup_or_start(ExampleWorker, :only_one)
      iex> GenRegistry.sample(ExampleWorker)
      {:only_one, pid}
  """
  @impl true
  @spec sample(name) :: {Types.id(), pid} | nil
  def sample(registry), do: Table.sample(registry)

  @doc """
  Folds over all processes: `fun` takes `{id, pid}` and the accumulator, and answers the next one.

  In no particular order. Processes may start and end meanwhile: one that is there throughout is met
  exactly once. An id is met twice only if its process ends and another one is started for it
  meanwhile, and then with both. It reads some hundred entries at a time, so it is no burden on others
  however many there are.

      iex> for id <- [:a, :b, :c], do: GenRegistry.lookup_or_start(ExampleWorker, id)
      iex> GenRegistry.reduce(ExampleWorker, 0, fn {_id, pid}, links ->
      ...>   {:links, of_one} = Process.info(pid, :links)
      ...>   links + length(of_one)
      ...> end)
      3
  """
  @impl true
  @spec reduce(name, acc, ({Types.id(), pid}, acc -> acc)) :: acc when acc: term
  def reduce(registry, acc, fun) do
    validate!(fun, &is_function(&1, 2), "reducer", "a function of two arguments")
    Table.reduce_chunks(registry, acc, &List.foldl(&1, &2, fun))
  end

  @doc """
  All `{id, pid}` as a stream, for `Enum` and `Stream`.

  It meets what `reduce/3` meets, and reads as it does, in the process that goes through the stream:
  some hundred entries at a time, and only as many as are asked for. Who halts early, or waits in
  between, holds up nobody. Each time that the stream is gone through, it begins anew.

  The registry is asked when the stream is gone through, not before. If it is not running by then, or
  ends on the way, that raises `ArgumentError`.

      iex> for id <- 1..1_000, do: GenRegistry.lookup_or_start(ExampleWorker, id)
      iex> stream = GenRegistry.stream(ExampleWorker)
      iex> stream |> Stream.filter(fn {id, _pid} -> rem(id, 2) == 0 end) |> Enum.count()
      500
      iex> stream |> Enum.take(3) |> length()
      3
  """
  @impl true
  @spec stream(name) :: Enumerable.t()
  def stream(registry) do
    Stream.resource(
      fn -> :start end,
      fn
        :done -> {:halt, :done}
        place -> Table.scan(registry, place)
      end,
      fn _cursor -> :ok end
    )
  end

  @doc """
  All `{id, pid}` as a list, see `reduce/3`.

      iex> {:ok, pid} = GenRegistry.lookup_or_start(ExampleWorker, {:user, 1})
      iex> GenRegistry.to_list(ExampleWorker)
      [{{:user, 1}, pid}]
  """
  @impl true
  @spec to_list(name) :: [{Types.id(), pid}]
  def to_list(registry), do: Table.reduce_chunks(registry, [], &(&1 ++ &2))

  ## The registry itself

  @doc """
  The names of the registries that run on this node, in no particular order.

  It reads in the calling process. Those that end are among them until all their workers have.

      iex> ExampleWorker in GenRegistry.registries()
      true
  """
  @impl true
  @spec registries :: [name]
  def registries, do: Table.registries()

  @doc """
  What a registry is about at the moment, for dashboards and for those who look into it:

    * `:worker_module` - the module whose `start_link` starts the workers
    * `:count` - as `count/1`
    * `:starting` - how many workers are in their start
    * `:stopping` - for how many ids a worker is being ended, which is not counted any more
    * `:queued` - how many ids wait for their turn, because `:max_starting` others are in their start
    * `:started`, `:ended` - how many workers have started and ended since the registry started; `:ended_idle` - how many
      of those that ended did so with `{:shutdown, :idle}`, as far as starters have heard of it
    * `:failed` - how many starts have failed since then; `:refused` - how many the bound of `:max_children` has
      refused
    * `:starters` - how many processes there are that start workers
    * `:memory` - about how many bytes the table takes: ids, pids, and what is known of each process.
      What the workers themselves take is not in it.
    * `:reclaiming` - `:ok`, or `:stopped` if memory cannot be freed any more, in the whole VM. That
      is also in the log, once. It has never been seen; it would be the system's fault
    * `:options` - what `start_link/2` was given, or its defaults: `:max_children`,
      `:max_starting` and `:worker_shutdown`

  The registry's process answers it, in some tens of microseconds, however many workers there are
  and whatever is in flight. Raises `ArgumentError` if `registry` can be none, or is a name that no
  process has. If it is a pid or on another node, and does not run, the caller exits as from
  `GenServer.call/3`.

      iex> {:ok, _} = GenRegistry.lookup_or_start(ExampleWorker, :an_id)
      iex> info = GenRegistry.info(ExampleWorker)
      iex> {info.worker_module, info.count, info.starting, info.stopping, info.queued}
      {ExampleWorker, 1, 0, 0, 0}
      iex> info.options[:max_starting]
      64
  """
  @impl true
  @spec info(server) :: info
  def info(registry) do
    server!(registry)
    Calls.info(@gen_module, registry)
  end

  ## Helpers

  defp call_start(registry, kind, id, args, timeout) do
    server!(registry)
    args!(args)
    timeout!(timeout)
    validate_size!(id)

    Calls.start(@gen_module, registry, kind, id, args, timeout)
  end

  # Before it goes into a message: what the term shares, its copy does not.
  defp validate_size!(id) do
    unless Table.id?(id), do: raise(ArgumentError, "the id is larger than 16 MB")
  end

  defp via!({registry, _id} = name) when is_atom(registry), do: name

  defp via!(name) do
    raise ArgumentError,
          "the name must be {registry, id}, with the name of a registry#{hint(name)}, " <>
            "got: #{inspect(name)}"
  end

  # What is wrong with names that are nearly right.
  defp hint({:via, __MODULE__, _name}), do: ", without {:via, GenRegistry, _} around it"
  defp hint({:via, _module, _name}), do: ""
  defp hint({registry, _key, _value}) when is_atom(registry), do: " and no value beside the id"
  defp hint({pid, _id}) when is_pid(pid), do: " and not its pid"
  defp hint({{name, node}, _id}) when is_atom(name) and is_atom(node), do: " on this node"
  defp hint(registry) when is_atom(registry), do: " and an id"
  defp hint({registry}) when is_atom(registry), do: " and an id"
  defp hint([registry | _]) when is_atom(registry), do: " as a tuple"
  defp hint(_name), do: ""
end
