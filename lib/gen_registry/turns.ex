defmodule GenRegistry.Turns do
  @moduledoc false
  # What comes next for an id in `GenRegistry.Schedule`, and who has the next place. Functions return what that
  # returns.

  alias GenRegistry.{Line, Schedule, Starters, TermMap, Tickets}

  @typep decided :: {Schedule.t(), [Schedule.action()]}

  @doc "Has an id be where it is now."
  @spec put(Schedule.t(), Schedule.id(), Schedule.stage(), Line.t()) :: Schedule.t()
  def put(schedule, id, stage, line) do
    %{schedule | flights: TermMap.put(schedule.flights, id, {stage, line})}
  end

  @doc "Nothing runs or ends for the id: the first in its line who still waits has the turn."
  @spec start_next(Schedule.t(), Schedule.id(), Line.t()) :: decided
  def start_next(schedule, id, line) do
    case Line.first(line) do
      nil ->
        {%{schedule | flights: TermMap.delete(schedule.flights, id)}, []}

      {_ticket, {:stop, _}} ->
        {stops, line} = Line.pop_while(line, &match?({:stop, _}, &1))
        {put(schedule, id, {:stopping, Enum.reverse(stops)}, line), [{:stop, id}]}

      {ticket, request} ->
        if goes_on?(schedule, request) do
          start_next(schedule, id, line, ticket, request)
        else
          {schedule, actions} = skip(schedule, id, Line.delete(line, ticket, request), request)
          {schedule, [{:forget, request} | actions]}
        end
    end
  end

  # Behind a replacement that nobody wants any more, the worker that was to be replaced may live.
  defp skip(schedule, id, line, {:replace, _, _, _}) do
    if Line.first(line) == nil,
      do: start_next(schedule, id, line),
      else: {put(schedule, id, {:stopping, []}, line), [{:look, id}]}
  end

  defp skip(schedule, id, line, _request), do: start_next(schedule, id, line)

  # What has begun goes on whoever waits.
  defp goes_on?(_schedule, {:replacement, _, _, _}), do: true
  defp goes_on?(schedule, request), do: schedule.waiting?.(Schedule.from(request))

  defp start_next(schedule, id, line, ticket, {:replace, _, _, _} = request) do
    stage = {:replacing, ticket, request, Line.first_nested?(line)}
    {put(schedule, id, stage, Line.delete(line, ticket, request)), [{:replace, id, request}]}
  end

  defp start_next(schedule, id, line, ticket, {:register, _, _, _} = request) do
    line = Line.delete(line, ticket, request)
    {put(schedule, id, {:registering, request}, line), [{:register, id, request}]}
  end

  defp start_next(schedule, id, line, ticket, request) do
    cond do
      Line.nested?(line) ->
        launch(schedule, id, request, Line.delete(line, ticket, request), :nested)

      place?(schedule, ticket) ->
        launch(schedule, id, request, Line.delete(line, ticket, request), :bounded)

      true ->
        schedule = put(schedule, id, {:queued, ticket}, line)
        {%{schedule | queue: Tickets.put(schedule.queue, ticket, id)}, []}
    end
  end

  @doc "Whether there is a place, for which nobody waits with an older ticket."
  @spec place?(Schedule.t(), Line.ticket()) :: boolean
  def place?(schedule, ticket) do
    schedule.places < schedule.max_starting and
      case Tickets.first(schedule.queue) do
        nil -> true
        {oldest, _id} -> ticket < oldest
      end
  end

  @doc "A request begins its start."
  @spec launch(Schedule.t(), Schedule.id(), Schedule.request(), Line.t(), :bounded | :nested) ::
          decided
  def launch(schedule, id, request, line, kind) do
    starter = Starters.next(schedule.starters) || :new
    places = if kind == :bounded, do: schedule.places + 1, else: schedule.places
    schedule = put(%{schedule | places: places}, id, {:starting, starter, request, kind}, line)
    {starting(schedule, starter, id), [{:start, starter, id, request}]}
  end

  @doc "Notes which starter does so, if that is known."
  @spec starting(Schedule.t(), pid | :new, Schedule.id()) :: Schedule.t()
  def starting(schedule, :new, _id), do: schedule

  def starting(schedule, starter, id) do
    %{schedule | starters: Starters.put(schedule.starters, starter, {:starting, id})}
  end

  @doc "The id's flight is over: the next one begins, and those of others for which there is a place."
  @spec go_on(Schedule.t(), Schedule.id(), Line.t(), [Schedule.action()]) :: decided
  # In this order the id's next request waits its turn among the others'.
  def go_on(schedule, id, line, actions) do
    {schedule, next} = start_next(schedule, id, line)
    then_fill_places(schedule, actions ++ next)
  end

  @doc """
  Others get the places that are free, after all that comes before: what is asked of an id whose turn it is may
  need one, and be older than those who wait for one.
  """
  @spec then_fill_places(Schedule.t(), [Schedule.action()]) :: decided
  def then_fill_places(schedule, actions) do
    if schedule.places < schedule.max_starting and Tickets.size(schedule.queue) > 0,
      do: {schedule, actions ++ [:fill_places]},
      else: {schedule, actions}
  end

  @doc "Gives free places to those who wait for one, in order."
  @spec fill_places(Schedule.t()) :: decided
  def fill_places(schedule) do
    with true <- schedule.places < schedule.max_starting,
         {ticket, id} <- Tickets.first(schedule.queue) do
      {{:queued, ^ticket}, line} = TermMap.fetch!(schedule.flights, id)
      {schedule, actions} = schedule |> unqueue(ticket) |> start_next(id, line)
      {schedule, more} = fill_places(schedule)
      {schedule, actions ++ more}
    else
      _ -> {schedule, []}
    end
  end

  @doc "The id with this ticket waits for no place any more."
  @spec unqueue(Schedule.t(), Line.ticket()) :: Schedule.t()
  def unqueue(schedule, ticket) do
    %{schedule | queue: Tickets.delete(schedule.queue, ticket)}
  end
end
