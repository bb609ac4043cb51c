defmodule GenRegistry.Schedule do
  @moduledoc false
  # Who starts, who waits, and what late news means: the decisions of `GenRegistry.Server`, apart
  # from the process that carries them out. Functions take the schedule, and answer the new one and
  # what is to be done, in order.
  #
  # An id is here only while it is in flight: being started, waiting for its turn to be, being
  # stopped, or being given to a guest. Whoever asks for it meanwhile stands in its line. The line moves when the flight ends:
  # after a start, all up to the first stop have their answer; after a failure or a stop, the next
  # one's own request is tried.

  defstruct [
    :max_starting,
    # Whether a caller still waits for its answer.
    :waiting?,
    flights: %{},
    # Ids whose flight is `{:queued, ticket, request}`, as `{ticket, id}`: in order of arrival. A
    # ticket that is void stays until its turn, or until there are more of them than of others.
    queue: :queue.new(),
    void: 0,
    valid: 0,
    tickets: 0,
    # How many starts run that are held to the bound.
    running: 0,
    # The last one used is the first one used again, so that few have work in quiet times.
    idle: []
  ]

  @type id :: GenRegistry.Types.id()
  @type from :: GenServer.from()
  @typedoc "What is asked for. What goes with a start is for the starter."
  @type request ::
          {:lookup_or_start, from, term} | {:start, from, term} | {:stop, from} | registration

  @typedoc "A process is to have the id. `parent` is that of one that asks for itself."
  @type registration :: {:register, from, pid, parent :: pid | nil}

  @typedoc """
  Where an id in flight is.

    * `{:queued, ticket, request}` - `:max_starting` others are being started
    * `{:starting, starter, request, :bounded | :nested}`
    * `{:stopping, callers}` - also while the remains of a killed starter are cleared away
    * `{:registering, registration}`
  """
  @type stage ::
          {:queued, ticket :: integer, request}
          | {:starting, pid | :new, request, :bounded | :nested}
          | {:stopping, [from]}
          | {:registering, registration}

  @type t :: %__MODULE__{
          max_starting: pos_integer,
          waiting?: (from -> boolean),
          flights: %{id => {stage, line :: :queue.queue(request)}},
          queue: :queue.queue({integer, id}),
          void: non_neg_integer,
          valid: non_neg_integer,
          tickets: integer,
          running: non_neg_integer,
          idle: [pid]
        }

  @typedoc """
  What is to be done.

    * `{:start, starter, id, request}` - by this starter, or by one that is `:new`: then
      `assigned/3` tells which it is
    * `{:stop, id}` - end the id's worker, then tell `stopped/3`; or `not_supervised/3`, if the
      process is a guest
    * `{:register, id, registration}` - give the id to the process, then tell `registered/4`
    * `{:clear, starter, id}` - end what a dead starter had begun to start, then tell `stopped/3`
    * `{:reply, from, answer}`
    * `{:probe, id, from}` - find out whether the caller is a worker in its init, which is told to
      `nested/4`
  """
  @type action ::
          {:start, pid | :new, id, request}
          | {:stop, id}
          | {:register, id, registration}
          | {:clear, pid, id}
          | {:reply, from, term}
          | {:probe, id, from}

  @doc "Nothing is in flight yet."
  @spec new(pos_integer, (from -> boolean)) :: t
  def new(max_starting, waiting?) do
    %__MODULE__{max_starting: max_starting, waiting?: waiting?}
  end

  @doc "The starters, idle and busy. Takes time in proportion to what is in flight."
  @spec starters(t) :: {idle :: [pid], busy :: [pid]}
  def starters(schedule), do: {schedule.idle, Map.keys(busy(schedule))}

  @doc "Whether a starter is idle."
  @spec idle?(t, pid) :: boolean
  def idle?(schedule, starter), do: starter in schedule.idle

  @doc "Whether anything is under way for an id, or waits to be."
  @spec in_flight?(t, id) :: boolean
  def in_flight?(schedule, id), do: is_map_key(schedule.flights, id)

  @doc "How many ids are in flight, and how many of these wait for a place. Takes no time to speak of."
  @spec counts(t) :: {in_flight :: non_neg_integer, queued :: non_neg_integer}
  def counts(schedule), do: {map_size(schedule.flights), schedule.valid}

  # Starters to the ids they are busy with.
  defp busy(schedule) do
    for {id, {{:starting, starter, _, _}, _}} when starter != :new <- schedule.flights,
        into: %{},
        do: {starter, id}
  end

  @doc "A caller asks for an id that has no live worker, or wants its worker stopped."
  @spec request(t, id, request) :: {t, [action]}
  def request(schedule, id, request) do
    case schedule.flights do
      %{^id => flight} -> join(schedule, id, flight, request)
      %{} -> begin(schedule, id, :queue.from_list([request]))
    end
  end

  # Stops of one id that nobody wants started in between are one stop.
  defp join(schedule, id, {{:stopping, callers}, {[], []} = line}, {:stop, from}) do
    {put(schedule, id, {:stopping, [from | callers]}, line), []}
  end

  # The worker itself, in its init, takes the name that it is started for.
  defp join(schedule, id, {{:starting, pid, _, _}, _}, {:register, _, _, pid} = request) do
    {schedule, [{:register, id, request}]}
  end

  defp join(schedule, id, {stage, line}, request) do
    probes =
      case {stage, request} do
        {{:queued, _, _}, request} -> [{:probe, id, from(request)}]
        # It may be the worker itself, which would wait for the end of its own init.
        {{:starting, _, _, _}, {:stop, from}} -> [{:probe, id, from}]
        {{:starting, _, _, _}, {:register, from, _, _}} -> [{:probe, id, from}]
        _ -> []
      end

    {put(schedule, id, stage, :queue.in(request, line)), probes}
  end

  defp from({:stop, from}), do: from
  defp from({_, from, _}), do: from
  defp from({:register, from, _, _}), do: from

  # Nothing runs or ends for the id: the first in its line who still waits has the turn.
  defp begin(schedule, id, line, kind \\ :bounded) do
    case :queue.out(line) do
      {:empty, _} ->
        {drop(schedule, id), []}

      {{:value, {:stop, _}}, _} ->
        {stops, line} = split_while(line, &match?({:stop, _}, &1))
        callers = stops |> Enum.map(&from/1) |> Enum.reverse()
        {put(schedule, id, {:stopping, callers}, line), [{:stop, id}]}

      {{:value, request}, line} ->
        cond do
          not schedule.waiting?.(from(request)) ->
            begin(schedule, id, line, kind)

          match?({:register, _, _, _}, request) ->
            {put(schedule, id, {:registering, request}, line), [{:register, id, request}]}

          kind == :nested or schedule.running < schedule.max_starting ->
            launch(schedule, id, request, line, kind)

          true ->
            queue(schedule, id, request, line)
        end
    end
  end

  defp split_while(line, fun) do
    {first, rest} = line |> :queue.to_list() |> Enum.split_while(fun)
    {first, :queue.from_list(rest)}
  end

  defp launch(schedule, id, request, line, kind) do
    {starter, idle} =
      case schedule.idle do
        [starter | idle] -> {starter, idle}
        [] -> {:new, []}
      end

    running = if kind == :bounded, do: schedule.running + 1, else: schedule.running
    flights = Map.put(schedule.flights, id, {{:starting, starter, request, kind}, line})
    schedule = %{schedule | flights: flights, idle: idle, running: running}
    {schedule, [{:start, starter, id, request}]}
  end

  defp queue(schedule, id, request, line) do
    ticket = schedule.tickets
    schedule = put(schedule, id, {:queued, ticket, request}, line)
    queue = :queue.in({ticket, id}, schedule.queue)
    probes = for request <- [request | :queue.to_list(line)], do: {:probe, id, from(request)}
    {%{schedule | queue: queue, tickets: ticket + 1, valid: schedule.valid + 1}, probes}
  end

  @doc "The new starter that an id was given."
  @spec assigned(t, id, pid) :: t
  def assigned(schedule, id, starter) do
    {{:starting, _, request, kind}, line} = schedule.flights[id]
    put(schedule, id, {:starting, starter, request, kind}, line)
  end

  @doc "There is no new starter for an id."
  @spec not_assigned(t, id, reason :: term) :: {t, [action]}
  def not_assigned(schedule, id, reason) do
    {{:starting, :new, request, _}, _} = schedule.flights[id]
    {line, schedule} = land(schedule, id)
    {schedule, actions} = go_on(schedule, id, line)
    {schedule, [{:reply, from(request), {:error, reason}} | actions]}
  end

  @doc "There is no room for the child that a starter, which is idle again, should have started."
  @spec refused(t, id, pid, reason :: term) :: {t, [action]}
  def refused(schedule, id, starter, reason) do
    schedule = assigned(schedule, id, :new)
    not_assigned(%{schedule | idle: [starter | schedule.idle]}, id, reason)
  end

  @doc """
  A starter has come to an end with an id, and has told the caller.

  `alive?` says whether the worker is alive. Callers who joined the line before the news may have
  called after its death: they are not given a dead one.
  """
  @spec started(t, pid, id, GenRegistry.Starter.outcome(), alive? :: boolean) :: {t, [action]}
  def started(schedule, starter, id, outcome, alive?) do
    case schedule.flights do
      %{^id => {{:starting, ^starter, _, _}, _}} ->
        {line, schedule} = land(schedule, id)
        serve(%{schedule | idle: [starter | schedule.idle]}, id, line, outcome, alive?)

      # A stranger's message that looks like the news of a starter.
      %{} ->
        {schedule, []}
    end
  end

  defp serve(schedule, id, line, outcome, alive?) do
    {served, line} =
      case outcome do
        {:ok, _pid} when alive? -> split_while(line, &(not match?({:stop, _}, &1)))
        _ -> {[], line}
      end

    replies = for request <- served, do: {:reply, from(request), answer(request, outcome)}
    {schedule, actions} = go_on(schedule, id, line)
    {schedule, replies ++ actions}
  end

  defp answer({:lookup_or_start, _, _}, {:ok, pid}), do: {:ok, pid}
  defp answer({:start, _, _}, {:ok, pid}), do: {:error, {:already_started, pid}}
  defp answer({:register, _, _, _}, {:ok, _pid}), do: :no

  @doc "A starter has died. What it was busy with has failed, and may have left a process."
  @spec starter_died(t, pid, reason :: term) :: {t, [action]}
  def starter_died(schedule, starter, reason) do
    case busy(schedule) do
      %{^starter => id} ->
        {{:starting, _, request, _}, _} = schedule.flights[id]
        {line, schedule} = land(schedule, id)
        schedule = put(schedule, id, {:stopping, []}, line)
        {schedule, dequeued} = dequeue(schedule)
        reply = {:reply, from(request), {:error, {:starter_died, reason}}}
        {schedule, [reply, {:clear, starter, id} | dequeued]}

      %{} ->
        {update_in(schedule.idle, &List.delete(&1, starter)), []}
    end
  end

  # Ends the flight of a start.
  defp land(schedule, id) do
    {{{:starting, _, _, kind}, line}, flights} = Map.pop!(schedule.flights, id)
    running = if kind == :bounded, do: schedule.running - 1, else: schedule.running
    {line, %{schedule | flights: flights, running: running}}
  end

  defp go_on(schedule, id, line) do
    {schedule, begun} = begin(schedule, id, line)
    {schedule, dequeued} = dequeue(schedule)
    {schedule, begun ++ dequeued}
  end

  # Gives free places to those who wait for one, in order.
  defp dequeue(%{running: running, max_starting: max} = schedule) when running >= max do
    {schedule, []}
  end

  defp dequeue(schedule) do
    case :queue.out(schedule.queue) do
      {:empty, _} ->
        {schedule, []}

      {{:value, {ticket, id}}, queue} ->
        schedule = %{schedule | queue: queue}

        case schedule.flights do
          %{^id => {{:queued, ^ticket, request}, line}} ->
            schedule = %{schedule | valid: schedule.valid - 1}
            {schedule, begun} = begin(schedule, id, :queue.in_r(request, line))
            {schedule, dequeued} = dequeue(schedule)
            {schedule, begun ++ dequeued}

          %{} ->
            dequeue(%{schedule | void: schedule.void - 1})
        end
    end
  end

  # The id was queued, and its flight is another now.
  defp unqueued(%{valid: valid, void: void} = schedule) when void >= valid do
    queue = :queue.filter(&valid?(schedule, &1), schedule.queue)
    %{schedule | queue: queue, void: 0, valid: valid - 1}
  end

  defp unqueued(schedule) do
    %{schedule | void: schedule.void + 1, valid: schedule.valid - 1}
  end

  defp valid?(schedule, {ticket, id}) do
    match?(%{^id => {{:queued, ^ticket, _}, _}}, schedule.flights)
  end

  @doc "An id's worker is gone, or there was none, or what a dead starter left is cleared away."
  @spec stopped(t, id, :ok | {:error, :not_found}) :: {t, [action]}
  def stopped(schedule, id, answer) do
    case schedule.flights do
      %{^id => {{:stopping, callers}, line}} ->
        replies = for from <- Enum.reverse(callers), do: {:reply, from, answer}
        {schedule, begun} = begin(schedule, id, line)
        {schedule, replies ++ begun}

      %{} ->
        {schedule, []}
    end
  end

  @doc """
  An id that was to be stopped has a process that is not ours to stop. Whoever wants one after that
  gets it.
  """
  @spec not_supervised(t, id, pid) :: {t, [action]}
  def not_supervised(schedule, id, pid) do
    {{:stopping, callers}, line} = schedule.flights[id]
    replies = for from <- Enum.reverse(callers), do: {:reply, from, {:error, :not_supervised}}
    {schedule, actions} = serve(schedule, id, line, {:ok, pid}, true)
    {schedule, replies ++ actions}
  end

  @doc "A process was to have an id, and has it now, or cannot have it."
  @spec registered(t, id, registration, boolean) :: {t, [action]}
  def registered(schedule, id, {:register, from, pid, _} = request, registered?) do
    {schedule, actions} =
      case schedule.flights do
        %{^id => {{:registering, ^request}, line}} ->
          serve(schedule, id, line, {:ok, pid}, registered?)

        # It is being started, and that goes on.
        %{} ->
          {schedule, []}
      end

    {schedule, [{:reply, from, if(registered?, do: :yes, else: :no)} | actions]}
  end

  @doc """
  A caller that waits for an id turned out to be in the init of what `starter` is busy with.

  What it waits for is not held to the bound, for that may depend on its own place. And it can wait
  neither for its own start to be stopped, nor for the end of it to take the id.
  """
  @spec nested(t, id, from, pid) :: {t, [action]}
  def nested(schedule, id, from, starter) do
    case schedule.flights do
      %{^id => {{:queued, _ticket, request}, line}} ->
        line = :queue.in_r(request, line)

        # It may have had its answer meanwhile, and others wait now.
        if :queue.any(&(from(&1) == from), line) do
          {schedule, actions} = begin(schedule, id, line, :nested)
          {unqueued(schedule), actions}
        else
          {schedule, []}
        end

      %{^id => {{:starting, ^starter, _, _} = stage, line}} ->
        case Enum.find(:queue.to_list(line), &(from(&1) == from)) do
          {:stop, _} ->
            {schedule, [{:reply, from, :ok}]}

          {:register, _, _, _} = request ->
            line = :queue.delete(request, line)
            {put(schedule, id, stage, line), [{:register, id, request}]}

          _ ->
            {schedule, []}
        end

      %{} ->
        {schedule, []}
    end
  end

  @doc "A caller waits no more: nothing is begun on its behalf. What was begun goes on."
  @spec gave_up(t, id, pid) :: {t, [action]}
  def gave_up(schedule, id, caller) do
    case schedule.flights do
      %{^id => {{:queued, ticket, request}, line}} ->
        line = without(:queue.in_r(request, line), caller)
        # Or else the start behind them would lose its place.
        {_late, line} = split_while(line, &late_registration?(schedule, &1))

        case :queue.out(line) do
          # A start, in the place of the one that had the turn.
          {{:value, {_, _, _} = request}, rest} ->
            {put(schedule, id, {:queued, ticket, request}, rest), []}

          _ ->
            {schedule, actions} = begin(schedule, id, line)
            {unqueued(schedule), actions}
        end

      %{^id => {stage, line}} ->
        {put(schedule, id, stage, without(line, caller)), []}

      %{} ->
        {schedule, []}
    end
  end

  defp late_registration?(schedule, {:register, from, _, _}), do: not schedule.waiting?.(from)
  defp late_registration?(_schedule, _request), do: false

  # Stops go on without their callers.
  defp without(line, caller) do
    :queue.filter(&(match?({:stop, _}, &1) or elem(from(&1), 0) != caller), line)
  end

  defp put(schedule, id, stage, line) do
    %{schedule | flights: Map.put(schedule.flights, id, {stage, line})}
  end

  defp drop(schedule, id), do: %{schedule | flights: Map.delete(schedule.flights, id)}
end
