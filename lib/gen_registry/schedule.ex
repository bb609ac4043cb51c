defmodule GenRegistry.Schedule do
  @moduledoc false
  # Who starts, who waits, and what late news means: the decisions of `GenRegistry.Server`, apart
  # from the process that carries them out. Functions take the schedule, and return the new one and
  # what is to be done, in order.
  #
  # An id is here only while it is in flight: waiting for a place, being started, being stopped, or
  # being given to a guest. Requests for it meanwhile wait in its line. The rules:
  #
  #   * One thing at a time is done for an id.
  #   * A start takes one of `max_starting` places, from its launch until its outcome is known. Places
  #     go by the time of each request, over all ids. A request that is nested in another start takes
  #     none, and does not wait for one.
  #   * After a start, all in the line get its process, up to the first stop or replacement.
  #   * After a failure of `start_link` itself, those are told of it whose arguments are equal, up to
  #     the first stop, replacement or registration. The others' own starts are tried.
  #   * A replacement ends what there is and starts another, and nothing comes in between.
  #   * Nothing is begun for a caller who does not wait any more. What was begun goes on.
  #   * Whatever happens costs the same per request that it answers, up to a logarithm of what is in
  #     flight.

  import GenRegistry.Turns, except: [fill_places: 1]

  alias GenRegistry.{Callers, Line, Starters, TermMap, Tickets, Turns, Types}

  defstruct [
    :max_starting,
    # Whether a caller still waits for its answer.
    :waiting?,
    flights: TermMap.new(),
    # The ids that wait for a place, by the tickets of their first requests.
    queue: Tickets.new(),
    # How many starts run that take a place.
    places: 0,
    tickets: 0,
    starters: Starters.new()
  ]

  @type id :: Types.id()
  @type from :: Callers.from()

  @typedoc """
  What is asked for. A `:replacement` is what a `:replace` is when the old worker is gone: it goes on though
  its caller does not wait any more. A `:stop` of `nil` is one of a caller that has its reply. `key` is equal for equal arguments, or `nil`, see `GenRegistry.Held.key/1`;
  `work` is for whoever carries the start out.
  """
  @type request ::
          {:lookup_or_start | :start, from, key :: term, work :: term}
          | {:replace | :replacement, from, key :: nil, work :: term}
          | {:stop, from | nil}
          | registration

  @typedoc "A process is to have the id. `parent` is that of one that asks for itself."
  @type registration :: {:register, from, pid, parent :: pid | nil}

  @typedoc """
  Where an id in flight is.

    * `{:queued, ticket}` - its first request waits for a place
    * `{:starting, starter, request, :bounded | :nested}`
    * `{:stopping, stops}` - also while what a failed start or a dead starter left is ended
    * `{:registering, registration}`
    * `{:replacing, ticket, request, nested?}` - the worker that is to be replaced is ended
  """
  @type stage ::
          {:queued, Line.ticket()}
          | {:starting, pid | :new, request, kind}
          | {:stopping, [request]}
          | {:registering, registration}
          | {:replacing, Line.ticket(), request, nested? :: boolean}

  @typep kind :: :bounded | :nested
  @typep doing :: :idle | :handling | :parent

  @type t :: %__MODULE__{
          max_starting: pos_integer,
          waiting?: (from -> boolean),
          flights: TermMap.t({stage, Line.t()}),
          queue: Tickets.t(),
          places: non_neg_integer,
          tickets: Line.ticket(),
          starters: Starters.t()
        }

  @typedoc """
  How a start ended. `shared?` says whether the failure is `start_link`'s own, so that it is also
  that of equal requests.
  """
  @type outcome :: {:ok, pid} | {:failed, reason :: term, shared? :: boolean}

  @typedoc """
  What is to be done.

    * `{:start, starter, id, request}` - by this starter, or by one that is `:new`: then
      `assigned/3` is told which it is
    * `{:stop, id}` - end the id's worker, then tell `stopped/3`; or `not_supervised/3`, if the
      process is a guest
    * `{:replace, id, request}` - as `{:stop, id}`
    * `{:look, id}` - tell `left_alone/4` if the id has a process, else `stopped/3`
    * `{:register, id, registration}` - give the id to the process, then tell `registered/4`
    * `{:await_sweep, starter, id}` - end what a dead starter had begun to start, then tell
      `stopped/3`
    * `:fill_places` - call `fill_places/1`
    * `{:reply, request, reply}`
    * `{:share, requests, reason}` - reply to all of these with the failure
    * `{:forget, request}` - nobody waits for it
  """
  @type action ::
          {:start, pid | :new, id, request}
          | {:stop, id}
          | {:replace, id, request}
          | {:look, id}
          | {:register, id, registration}
          | {:await_sweep, pid, id}
          | :fill_places
          | {:reply, request, term}
          | {:share, [request], reason :: term}
          | {:forget, request}

  @doc "Nothing is in flight yet."
  @spec new(pos_integer, (from -> boolean)) :: t
  def new(max_starting, waiting?) do
    %__MODULE__{max_starting: max_starting, waiting?: waiting?}
  end

  @doc "Who asks, and waits for a reply."
  @spec from(request) :: from | nil
  def from(request), do: elem(request, 1)

  @doc "Whether anything is under way for an id, or waits to be."
  @spec in_flight?(t, id) :: boolean
  def in_flight?(schedule, id), do: TermMap.has_key?(schedule.flights, id)

  @doc "How many ids are in flight, and how many of these wait for a place."
  @spec counts(t) :: {in_flight :: non_neg_integer, queued :: non_neg_integer}
  def counts(schedule), do: {TermMap.size(schedule.flights), Tickets.size(schedule.queue)}

  @doc "All requests that have no answer yet, in no order."
  @spec unanswered(t) :: [request]
  def unanswered(schedule) do
    Enum.flat_map(TermMap.values(schedule.flights), fn {stage, line} ->
      {in_line, _line} = Line.pop_while(line, fn _request -> true end)
      for request <- of_stage(stage) ++ in_line, from(request) != nil, do: request
    end)
  end

  defp of_stage({:queued, _ticket}), do: []
  defp of_stage({:starting, _starter, request, _kind}), do: [request]
  defp of_stage({:stopping, stops}), do: stops
  defp of_stage({:registering, registration}), do: [registration]
  defp of_stage({:replacing, _ticket, request, _nested?}), do: [request]

  ## Requests

  @doc """
  A caller asks for an id that has no live worker, or wants its worker stopped.

  `starter` is the one in whose start that is nested, of this registry or another, or the worker in whose
  end, or `nil`. What a start or an end waits for is not held to the bound, for it may depend on a place
  that waits for it. And it can wait
  neither for its own start to be stopped, nor for the end of it to take the id.
  """
  @spec request(t, id, request, starter :: pid | nil) :: {t, [action]}
  def request(%{tickets: ticket} = schedule, id, request, starter) do
    schedule = %{schedule | tickets: ticket + 1}

    case TermMap.fetch(schedule.flights, id) do
      {:ok, flight} -> join(schedule, id, flight, ticket, request, starter)
      :error -> begin(schedule, id, ticket, request, starter != nil)
    end
  end

  # A lone request needs no line, if it is its turn.
  defp begin(schedule, id, ticket, {kind, from, _, _} = request, nested?)
       when kind in [:lookup_or_start, :start] do
    if (nested? or place?(schedule, ticket)) and schedule.waiting?.(from),
      do: launch(schedule, id, request, Line.new(), kind(nested?)),
      else: start_next(schedule, id, Line.add(Line.new(), ticket, request, nested?))
  end

  defp begin(schedule, id, ticket, request, nested?) do
    start_next(schedule, id, Line.add(Line.new(), ticket, request, nested?))
  end

  defp kind(true = _nested?), do: :nested
  defp kind(false), do: :bounded

  # Stops of one id that nobody wants started in between are one stop.
  defp join(schedule, id, {{:stopping, stops} = stage, line}, ticket, {:stop, _} = stop, starter) do
    case Line.first(line) do
      nil -> {put(schedule, id, {:stopping, [stop | stops]}, line), []}
      _ -> {put(schedule, id, stage, Line.add(line, ticket, stop, starter != nil)), []}
    end
  end

  # In its own start: the worker is stopped once it has started, for which nobody waits.
  defp join(
         schedule,
         id,
         {{:starting, starter, _, _} = stage, line},
         ticket,
         {:stop, _} = stop,
         starter
       ) do
    {put(schedule, id, stage, Line.add(line, ticket, {:stop, nil}, false)), [{:reply, stop, :ok}]}
  end

  # The worker itself, in its init, takes the name that it is started for; or has another take it.
  defp join(
         schedule,
         id,
         {{:starting, starter, _, _}, _},
         _,
         {:register, _, _, parent} = request,
         own
       )
       when starter in [parent, own] do
    {schedule, [{:register, id, request}]}
  end

  defp join(schedule, id, {{:queued, first}, line}, ticket, request, starter)
       when starter != nil do
    schedule |> unqueue(first) |> start_next(id, Line.add(line, ticket, request, true))
  end

  defp join(schedule, id, {stage, line}, ticket, request, starter) do
    {put(schedule, id, stage, Line.add(line, ticket, request, starter != nil)), []}
  end

  @doc "A caller waits no more: nothing is begun on its behalf. What was begun goes on."
  @spec gave_up(t, id, pid) :: {t, [action]}
  def gave_up(schedule, id, caller) do
    case TermMap.fetch(schedule.flights, id) do
      {:ok, {stage, line}} ->
        {gone, line} = Line.leave(line, caller)
        {schedule, actions} = left(schedule, id, stage, line)
        {schedule, forget(gone) ++ actions}

      _ ->
        {schedule, []}
    end
  end

  # Where the first of those who wait for a place has gone, the next one's ticket counts.
  defp left(schedule, id, {:queued, ticket} = stage, line) do
    case Line.first(line) do
      {^ticket, _request} ->
        {put(schedule, id, stage, line), []}

      _ ->
        schedule |> unqueue(ticket) |> start_next(id, line)
    end
  end

  defp left(schedule, id, stage, line), do: {put(schedule, id, stage, line), []}

  defp forget(requests), do: for(request <- requests, do: {:forget, request})

  @doc "What an earlier registry has left of an id ends first: the id goes on after `stopped/3`."
  @spec occupied(t, id) :: t
  def occupied(schedule, id) do
    if in_flight?(schedule, id),
      do: schedule,
      else: put(schedule, id, {:stopping, []}, Line.new())
  end

  @doc "Gives free places to those who wait for one, in order."
  @spec fill_places(t) :: {t, [action]}
  defdelegate fill_places(schedule), to: Turns

  ## Starts

  @doc "The new starter that an id was given."
  @spec assigned(t, id, pid) :: t
  def assigned(schedule, id, starter) do
    {{:starting, _, request, kind}, line} = TermMap.fetch!(schedule.flights, id)
    schedule |> put(id, {:starting, starter, request, kind}, line) |> starting(starter, id)
  end

  @doc "There is no new starter for an id."
  @spec not_assigned(t, id, reason :: term) :: {t, [action]}
  def not_assigned(schedule, id, reason) do
    {request, line, schedule} = finish_start(schedule, id)
    go_on(schedule, id, line, [{:reply, request, {:error, reason}}])
  end

  @doc "There is no room for the child that a starter, which is idle again, should have started."
  @spec refused(t, id, pid, reason :: term) :: {t, [action]}
  def refused(schedule, id, starter, reason) do
    schedule = %{schedule | starters: Starters.put(schedule.starters, starter, :idle)}
    not_assigned(schedule, id, reason)
  end

  @doc """
  A starter has come to an end with an id, has told the caller, and does `state` now.

  `alive?` says whether the worker is alive. Callers who joined the line before the news may have
  called after its death: they are not given a dead one.

  `remains?` says whether the start has left processes: then the id goes on after `stopped/3`, or
  `not_supervised/3`, when they are gone.
  """
  @spec started(t, pid, id, outcome, alive? :: boolean, doing, remains? :: boolean) ::
          {t, [action]}
  def started(schedule, starter, id, outcome, alive?, state, remains? \\ false) do
    case TermMap.fetch(schedule.flights, id) do
      {:ok, {{:starting, ^starter, _, _}, _}} ->
        schedule = %{schedule | starters: Starters.put(schedule.starters, starter, state)}
        {request, line, schedule} = finish_start(schedule, id)
        {actions, line} = answer_line(line, request, outcome, alive?)

        if remains?,
          do: clear(schedule, id, line, actions),
          else: go_on(schedule, id, line, actions)

      # A stranger's message that looks like the news of a starter.
      _ ->
        {schedule, []}
    end
  end

  @doc "A starter has done what follows a start, and waits: for the next one, or as a mere parent."
  @spec rested(t, pid, :idle | :parent) :: t
  def rested(%__MODULE__{} = schedule, starter, state) do
    if Starters.rests?(schedule.starters, starter),
      do: %{schedule | starters: Starters.put(schedule.starters, starter, state)},
      else: schedule
  end

  @doc "A starter without workers may end. Returns `nil` if it is needed."
  @spec retire(t, pid) :: t | nil
  def retire(schedule, starter) do
    if Starters.spare?(schedule.starters, starter) do
      %{schedule | starters: Starters.delete(schedule.starters, starter)}
    end
  end

  @doc "A starter has died. What it was busy with has failed, and may have left a process."
  @spec starter_died(t, pid, reason :: term) :: {t, [action]}
  def starter_died(schedule, starter, reason) do
    starting = Starters.starting(schedule.starters, starter)
    schedule = %{schedule | starters: Starters.delete(schedule.starters, starter)}

    case starting do
      {:starting, id} ->
        {request, line, schedule} = finish_start(schedule, id)
        reply = {:reply, request, {:error, {:starter_died, reason}}}
        clear(schedule, id, line, [reply, {:await_sweep, starter, id}])

      nil ->
        {schedule, []}
    end
  end

  # What a start has left is to end before the id's next request has its turn.
  defp clear(schedule, id, line, actions) do
    schedule |> put(id, {:stopping, []}, line) |> then_fill_places(actions)
  end

  # Frees the place of a start.
  defp finish_start(schedule, id) do
    {{:starting, _, request, kind}, line} = TermMap.fetch!(schedule.flights, id)
    places = if kind == :bounded, do: schedule.places - 1, else: schedule.places
    {request, line, %{schedule | places: places}}
  end

  defp answer_line(line, _request, {:ok, _pid} = outcome, true = _alive?) do
    {served, line} = Line.pop_while(line, &(elem(&1, 0) not in [:stop, :replace]))
    {for(request <- served, do: {:reply, request, reply(request, outcome)}), line}
  end

  defp answer_line(line, {_, _, key, _}, {:failed, reason, true = _shared?}, _alive?) do
    {equal, line} = Line.pop_equal(line, key)
    {[{:share, equal, reason}], line}
  end

  defp answer_line(line, _request, {:failed, reason, false}, _alive?) do
    {[{:share, [], reason}], line}
  end

  defp answer_line(line, _request, {:ok, _pid}, false), do: {[], line}

  defp reply({:lookup_or_start, _, _, _}, {:ok, pid}), do: {:ok, pid}
  defp reply({:start, _, _, _}, {:ok, pid}), do: {:error, {:already_started, pid}}
  defp reply({:register, _, _, _}, {:ok, _pid}), do: :no

  ## Stops and registrations

  @doc "The worker of an id that is being stopped is told at once, if it has asked for that itself."
  @spec stops_itself(t, id, worker :: pid) :: {t, [action]}
  def stops_itself(schedule, id, worker) do
    case TermMap.fetch!(schedule.flights, id) do
      {{:stopping, stops}, line} ->
        {own, others} = Enum.split_with(stops, &match?({:stop, {^worker, _tag}}, &1))
        {put(schedule, id, {:stopping, others}, line), replies(own, :ok)}

      _ ->
        {schedule, []}
    end
  end

  @doc "An id's worker is gone, or there was none, or what a start left is gone."
  @spec stopped(t, id, :ok | {:error, :not_found}) :: {t, [action]}
  def stopped(schedule, id, reply) do
    case TermMap.fetch(schedule.flights, id) do
      {:ok, {{:stopping, stops}, line}} ->
        go_on(schedule, id, line, replies(stops, reply))

      {:ok, {{:replacing, ticket, {:replace, from, key, work}, nested?}, line}} ->
        go_on(schedule, id, Line.add(line, ticket, {:replacement, from, key, work}, nested?), [])

      _ ->
        {schedule, []}
    end
  end

  @doc """
  An id that was to be stopped has a process that is not ours to stop. Whoever wants one after that
  gets it.
  """
  @spec not_supervised(t, id, pid) :: {t, [action]}
  def not_supervised(schedule, id, pid), do: left_alone(schedule, id, pid, :not_supervised)

  @doc "An id's process, which was to be stopped or replaced, is left alone for this reason."
  @spec left_alone(t, id, pid, reason :: term) :: {t, [action]}
  def left_alone(schedule, id, pid, reason) do
    {stage, line} = TermMap.fetch!(schedule.flights, id)
    {actions, line} = answer_line(line, nil, {:ok, pid}, true)
    go_on(schedule, id, line, replies(of_stage(stage), {:error, reason}) ++ actions)
  end

  defp replies(stops, reply) do
    for stop <- Enum.reverse(stops), from(stop) != nil, do: {:reply, stop, reply}
  end

  @doc "A process was to have an id, and has it now, or cannot have it."
  @spec registered(t, id, registration, boolean) :: {t, [action]}
  def registered(schedule, id, {:register, _, pid, _} = request, registered?) do
    answered = {:reply, request, if(registered?, do: :yes, else: :no)}

    case TermMap.fetch(schedule.flights, id) do
      {:ok, {{:registering, ^request}, line}} ->
        {actions, line} = answer_line(line, nil, {:ok, pid}, registered?)
        go_on(schedule, id, line, [answered | actions])

      # It is being started, and that goes on.
      _ ->
        {schedule, [answered]}
    end
  end
end
