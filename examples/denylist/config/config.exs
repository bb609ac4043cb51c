import Config

# Where the rules are kept; `mix denylist.replay --data DIR` says otherwise.
config :mnesia, dir: to_charlist(Path.expand("../_data", __DIR__))

# When the application stops, all changed rules are saved at once. By default Mnesia
# would call that an overload.
config :mnesia, dump_log_write_threshold: 1_000_000

# Without the notices that an application has stopped.
config :logger, level: :warning
