defmodule OwnershipStandIn do
  @moduledoc "What Mox and Ecto's sandbox have in common: what a process owns, those may use whom it allows."

  use Agent

  def start_link(_opts), do: Agent.start_link(fn -> %{} end, name: __MODULE__)

  @doc "The calling process owns this under the key."
  def own(key, value) do
    owner = self()
    Agent.update(__MODULE__, &Map.put(&1, {key, owner}, value))
  end

  @doc "Lets a process use what another owns under the key."
  def allow(key, owner, pid) do
    Agent.update(__MODULE__, &Map.put(&1, {key, pid}, Map.fetch!(&1, {key, owner})))
  end

  @doc "What the calling process may use, by itself or by one of its callers."
  def fetch!(key) do
    owned = Agent.get(__MODULE__, & &1)
    users = [self() | Process.get(:"$callers", [])]

    case Enum.find(users, &is_map_key(owned, {key, &1})) do
      nil -> raise "#{inspect(self())} may not use #{inspect(key)}"
      user -> owned[{key, user}]
    end
  end
end

defmodule Mox do
  @moduledoc "As much of the package as the guide to tests uses."

  def stub(mock, name, fun), do: OwnershipStandIn.own(mock, %{name => fun})
  def allow(mock, owner, pid), do: OwnershipStandIn.allow(mock, owner, pid)
end

defmodule Ecto.Adapters.SQL.Sandbox do
  @moduledoc "As much of the package as the guide to tests uses."

  def checkout(repo), do: OwnershipStandIn.own(repo, :connection)
  def allow(repo, owner, pid), do: OwnershipStandIn.allow(repo, owner, pid)
end

defmodule MyApp.PricesMock do
  @moduledoc "As `Mox.defmock/2` would make it."
  def price(item), do: OwnershipStandIn.fetch!(__MODULE__).price.(item)
end

defmodule MyApp.Prices do
  @moduledoc false
  def impl, do: MyApp.PricesMock
end

defmodule MyApp.Shop do
  @moduledoc "Uses mocks and the database in its calls."

  use GenServer

  def start_link(name), do: GenServer.start_link(__MODULE__, name)

  @impl true
  def init(""), do: {:stop, :no_name}
  def init(name), do: {:ok, name}

  @impl true
  def handle_call({:price, item}, _from, name) do
    :connection = OwnershipStandIn.fetch!(MyApp.Repo)
    {:reply, MyApp.Prices.impl().price(item), name}
  end
end
