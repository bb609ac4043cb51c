defmodule Denylist.Calls do
  @moduledoc """
  Places calls between phone numbers, and lets a number choose who may call it.

      iex> Denylist.Calls.place_call("+442079460123", "+12015550123")
      {:ok, :place_call}
      iex> Denylist.Calls.deny("+12015550123", "+44*")
      :ok
      iex> Denylist.Calls.place_call("+442079460123", "+12015550123")
      {:error, :reject_call}

  A number is written as E.164 has it (`"+12015550123"`), and is the id of the
  process that keeps its rules. Nothing here knows whether that process was
  running: `GenRegistry.call/4` finds it or starts it.
  """

  alias Denylist.{Rules, Worker}

  @doc "Asks the recipient's rules whether the sender may call."
  @spec place_call(Rules.phone_number(), Rules.phone_number()) ::
          {:ok, :place_call} | {:error, :reject_call}
  def place_call(sender, recipient) do
    if Worker.allow?(recipient, sender) do
      {:ok, :place_call}
    else
      {:error, :reject_call}
    end
  end

  @doc "Adds a rule: the recipient takes no more calls from the senders it names."
  @spec deny(Rules.phone_number(), Rules.rule()) :: :ok
  def deny(recipient, rule), do: Worker.deny(recipient, rule)

  @doc "Takes a rule back, written as it was given to `deny/2`."
  @spec allow(Rules.phone_number(), Rules.rule()) :: :ok
  def allow(recipient, rule), do: Worker.allow(recipient, rule)
end
