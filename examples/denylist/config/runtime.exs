import Config

# A release has no directory of its own to write to.
if data = System.get_env("DENYLIST_DATA") do
  config :mnesia, dir: to_charlist(data)
end
