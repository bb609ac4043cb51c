defmodule RateLimiter.Load do
  @moduledoc """
  Loads a rate limiter with the requests of many users, over several connections.

  Nobody has made these requests: they are drawn at random, but with a fixed seed, so
  that each run makes the same. As in life, few users ask a lot and many ask little:
  about as in Zipf's law, the second user asks half as often as the first, the third a
  third as often.
  """

  alias RateLimiter.{Client, Histogram}

  @seed 20_250_101
  @type options :: %{
          url: String.t(),
          requests: pos_integer,
          users: pos_integer,
          clients: pos_integer
        }

  @typedoc "`latencies` are in microseconds."
  @type result :: %{
          allowed: non_neg_integer,
          refused: non_neg_integer,
          latencies: Histogram.counts()
        }

  @doc """
  Makes the requests, and answers when all are answered. Meanwhile `progress` is called
  with the result so far, every `pause` milliseconds.

  Raises if a client cannot connect, or gets an answer other than 200 or 429.
  """
  @spec run(options, pause :: pos_integer, (result -> any)) :: result
  def run(options, pause \\ 1_000, progress \\ fn _result -> :ok end) do
    answers = :counters.new(2, [])
    latencies = Histogram.new()

    clients =
      for n <- 1..options.clients do
        share = div(options.requests + n - 1, options.clients)

        Task.async(fn ->
          client(options, {@seed, options.clients, n}, share, answers, latencies)
        end)
      end

    wait(clients, pause, fn -> progress.(result(answers, latencies)) end)
    result(answers, latencies)
  end

  @doc "How many workers a server has started so far, and how many there are now."
  @spec workers(url :: String.t()) :: %{started: non_neg_integer, count: non_neg_integer}
  def workers(url) do
    {:ok, client} = connect(url)
    {:ok, {200, _headers, stats}} = Client.request(client, "GET", "/stats")
    Client.close(client)

    # Two numbers do not need a parser of JSON.
    for key <- [:started, :count], into: %{} do
      [_, number] = Regex.run(~r/"#{key}":(\d+)/, stats)
      {key, String.to_integer(number)}
    end
  end

  defp wait([], _pause, _progress), do: :ok

  defp wait(clients, pause, progress) do
    # Who crashes takes us along: they are linked.
    still = for {client, nil} <- Task.yield_many(clients, pause), do: client
    progress.()
    wait(still, pause, progress)
  end

  defp client(options, seed, requests, answers, latencies) do
    {:ok, client} = connect(options.url)

    Enum.reduce(1..requests//1, :rand.seed_s(:exsss, seed), fn _, random ->
      {user, random} = draw(options.users, random)
      began = System.monotonic_time()

      case Client.request(client, "POST", "/users/#{user}/take") do
        {:ok, {200, _headers, _body}} -> :counters.add(answers, 1, 1)
        {:ok, {429, _headers, _body}} -> :counters.add(answers, 2, 1)
        other -> raise "#{options.url} has answered a request with #{inspect(other)}"
      end

      took = System.monotonic_time() - began
      Histogram.add(latencies, System.convert_time_unit(took, :native, :microsecond))
      random
    end)

    Client.close(client)
  end

  defp connect(url) do
    with {:error, reason} <- Client.connect(url) do
      raise "cannot connect to #{url}: #{:inet.format_error(reason)}"
    end
  end

  # To take evenly from the logarithms of the ranks is to take rank k in proportion to
  # log((k + 1) / k), which is close to 1 / k.
  defp draw(users, random) do
    {uniform, random} = :rand.uniform_s(random)
    {"user-#{trunc(:math.pow(users + 1, uniform))}", random}
  end

  defp result(answers, latencies) do
    %{
      allowed: :counters.get(answers, 1),
      refused: :counters.get(answers, 2),
      latencies: Histogram.counts(latencies)
    }
  end
end
