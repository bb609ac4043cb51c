defmodule Denylist.Case do
  @moduledoc """
  For tests that need the application: each gets it freshly started, on an empty
  data directory of its own.
  """

  use ExUnit.CaseTemplate

  using do
    quote do
      import Denylist.Case
      @moduletag :tmp_dir
    end
  end

  setup %{tmp_dir: tmp_dir} do
    Application.put_env(:mnesia, :dir, to_charlist(tmp_dir), persistent: true)
    start()
    on_exit(&stop/0)
  end

  @doc "Stops the application, and the store with it; the directory stays."
  def stop do
    for app <- [:denylist, :mnesia], do: Application.stop(app)
    :ok
  end

  @doc "Starts the application on the same directory again."
  def start do
    {:ok, _} = Application.ensure_all_started(:denylist)
    :ok
  end
end
