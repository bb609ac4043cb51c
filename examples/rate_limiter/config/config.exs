import Config

# What a user may do: ten requests at once, and one more every three seconds.
config :rate_limiter, capacity: 10, interval: 3_000

# How many milliseconds a user's process stays after the last request.
config :rate_limiter, idle: 15_000

# Without the notices that an application has stopped.
config :logger, level: :warning
