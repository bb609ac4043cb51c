defmodule GenRegistry.Types do
  @moduledoc """
  Types for those who write code around `GenRegistry`, or doubles of it.
  """

  @typedoc """
  What a worker is registered under: any term. Two ids are the same when they are `===`.

  A term of more than 16 MB is no id: it is never found, and a start for it raises. What a term
  shares is counted as often as it is met, as it is copied into a message.
  """
  @type id :: term
end
