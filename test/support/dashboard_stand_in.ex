defmodule Phoenix.LiveDashboard.PageBuilder do
  @moduledoc """
  As much of the package as a page needs that has tables: its template is a list of the values of its
  attributes, `{name, value}`.
  """

  @callback menu_link(session :: map, capabilities :: map) :: {:ok, String.t()}
  @callback render(assigns :: map) :: term

  defmacro __using__(_opts) do
    quote do
      @behaviour unquote(__MODULE__)
      import unquote(__MODULE__)
    end
  end

  @doc "The values of a template's attributes, in the order in which they stand there."
  defmacro sigil_H({:<<>>, _meta, [template]}, []) do
    attributes = Regex.scan(~r/([\w-]+)=\{([^}]*)\}/, template, capture: :all_but_first)

    for [name, value] <- attributes do
      quoted = value |> String.replace("@", "assigns.") |> Code.string_to_quoted!()
      # In the page's own scope, where its private functions are.
      {name, Macro.prewalk(quoted, &own/1)}
    end
  end

  defp own({:assigns, meta, nil}), do: {:assigns, meta, nil}
  defp own(other), do: other

  def encode_pid(pid), do: "PID" <> inspect(pid)
end

defmodule Telemetry.Metrics do
  @moduledoc "As much of the package as a list of metrics needs."

  for kind <- [:counter, :summary, :last_value] do
    def unquote(kind)(name, opts),
      do: Map.merge(%{kind: unquote(kind), name: name}, Map.new(opts))
  end
end
