defmodule GenRegistry.Types do
  @moduledoc """
  Types for those who write code around `GenRegistry`, or doubles of it.
  """

  @typedoc """
  What a worker is registered under: any term. Two ids are the same when they are `===`.
  """
  @type id :: term
end
