defmodule ScheduleWorld do
  @moduledoc false
  # What is around a schedule: a server with its mailbox, starters, workers and callers. It knows
  # from what happened who should have what. `Events` lets things happen, `News` has what
  # the server hears of them, `Actions` checks what the
  # schedule says and carries it out, and `Checks` has what is true after every step.

  alias GenRegistry.Schedule
  alias ScheduleWorld.{Checks, Events}

  defstruct [
    :max,
    :schedule,
    serial: 0,
    # Requests that are neither answered nor begun, by id, in order of arrival.
    lines: %{},
    # The starts that run, by id.
    runs: %{},
    # What the server knows of its starters. Those that are idle, the last used one first.
    starters: %{},
    idle: [],
    # What starters do in truth, and which have died.
    doing: %{},
    dead_starters: MapSet.new(),
    # Ids to what is being ended, and to the stops that this answers; or to the `{:replacing, request}` for
    # which it is.
    ending: %{},
    # Registrations that are being carried out, by id.
    registering: %{},
    # Registered ones that are alive, `{worker, starter}` by id; guests have no starter.
    workers: %{},
    # Callers in a worker's init, to that start: its starter, or `:elsewhere`, and its number.
    nested: %{},
    # Whoever expects an answer, to its id and request.
    waiting: %{},
    gave_up: MapSet.new(),
    answered: MapSet.new(),
    # Those that are answered twice.
    mailbox: []
  ]

  def new(max), do: %__MODULE__{max: max, schedule: Schedule.new(max, &waiting?/1)}

  def waiting?({caller, _tag}), do: caller not in Process.get(:dead, MapSet.new())

  def die(caller), do: Process.put(:dead, MapSet.put(Process.get(:dead, MapSet.new()), caller))

  def step(world), do: world |> Events.happen(:rand.uniform(100)) |> Checks.check()

  # Ends all that runs, in turn, and asks for nothing more.
  def finish(world) do
    world = Checks.check(Events.go_on(world))

    if Events.over?(world), do: Checks.check_end(world), else: finish(world)
  end

  ## What is so

  def line(world, id), do: Map.get(world.lines, id, [])

  def put_line(world, id, []), do: %{world | lines: Map.delete(world.lines, id)}
  def put_line(world, id, line), do: %{world | lines: Map.put(world.lines, id, line)}

  def from(request), do: Schedule.from(request)

  # Requests are numbered as they come.
  def age(request), do: elem(from(request), 1)

  def start?(request), do: elem(request, 0) in [:lookup_or_start, :start]

  # Callers who wait for their request. A stop goes on without its caller, as what replaces a worker does.
  def live?(request),
    do: elem(request, 0) in [:stop, :replacement] or waiting?(from(request))

  # Ids that have a line, but of which nothing runs or ends: they wait for a place.
  def queued(world) do
    for {id, _line} <- world.lines,
        not is_map_key(world.runs, id),
        not is_map_key(world.ending, id),
        not is_map_key(world.registering, id),
        do: id
  end

  # How many starts take a place.
  def places(world), do: Enum.count(world.runs, fn {_, run} -> run.kind == :bounded end)

  # Nobody waits for a worker's own stop, which is answered.
  def nested?(_world, {:stop, nil}), do: false

  def nested?(world, request) do
    {caller, _} = from(request)
    is_map_key(world.nested, caller)
  end

  def run_of(world, starter) do
    Enum.find_value(world.runs, fn {id, run} -> if run.starter == starter, do: {id, run} end)
  end

  # The starter in whose start a caller is, if it is in one.
  def in_init(world, caller) do
    with {starter, number} <- world.nested[caller],
         {_id, %{number: ^number, ended?: false}} <- run_of(world, starter) do
      starter
    else
      _ -> nil
    end
  end

  # What the server knows of a starter.
  def put_starter(world, starter, :idle) do
    %{world | starters: Map.put(world.starters, starter, :idle), idle: [starter | world.idle]}
  end

  def put_starter(world, starter, state) do
    idle = List.delete(world.idle, starter)
    %{world | starters: Map.put(world.starters, starter, state), idle: idle}
  end

  def forget_starter(world, starter) do
    idle = List.delete(world.idle, starter)
    %{world | starters: Map.delete(world.starters, starter), idle: idle}
  end

  def kill_starter(world, starter) do
    note({:starter_dies, starter})
    workers = Map.reject(world.workers, fn {_, {_, parent}} -> parent == starter end)
    dead_starters = MapSet.put(world.dead_starters, starter)
    post(%{world | workers: workers, dead_starters: dead_starters}, {:exit, starter})
  end

  ## Small things

  def post(world, message), do: %{world | mailbox: world.mailbox ++ [message]}
  def serial(world), do: {world.serial + 1, %{world | serial: world.serial + 1}}
  def pick([]), do: nil
  def pick(list), do: Enum.random(list)
  def coin, do: :rand.uniform(2) == 1
  def note(what), do: Process.put(:history, [what | Process.get(:history)])
  def see(event), do: Process.put(:seen, MapSet.put(Process.get(:seen), event))
end
