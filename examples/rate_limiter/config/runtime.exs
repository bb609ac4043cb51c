import Config

# Where it listens: `PORT=8080 bin/rate_limiter start`, or `IP=0.0.0.0` for other machines too.
{:ok, ip} = "IP" |> System.get_env("127.0.0.1") |> to_charlist() |> :inet.parse_address()

config :rate_limiter, ip: ip, port: "PORT" |> System.get_env("4000") |> String.to_integer()
