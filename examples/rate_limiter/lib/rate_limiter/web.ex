defmodule RateLimiter.Web do
  @moduledoc """
  The HTTP side: a callback module of `:httpd`, the server that comes with Erlang/OTP.

      POST /users/ID/take     200 or 429, and how many tokens are left
      GET  /stats             what the page shows, as JSON
      GET  /                  the live page

  An `ID` is a text of 1 to 64 bytes, percent-encoded. All answers but the page are
  JSON. Those to `take` tell what the user may do in headers too: `ratelimit-limit`,
  `ratelimit-remaining`, and with 429 `retry-after`, in whole seconds.

  `:httpd` has a process for each connection, keeps it open between requests, and turns
  away what is not HTTP; each request is answered in its connection's process. An
  application of yours has `Plug` and `Bandit` or `Phoenix` instead, with the same one
  line in it: `RateLimiter.take(user)`.
  """

  alias RateLimiter.{Json, Stats, Worker}

  require Logger
  require Record

  Record.defrecordp(:mod, Record.extract(:mod, from_lib: "inets/include/httpd.hrl"))

  @phrases %{
    200 => "OK",
    400 => "Bad Request",
    404 => "Not Found",
    405 => "Method Not Allowed",
    429 => "Too Many Requests",
    500 => "Internal Server Error"
  }

  @doc "Starts the server where the settings `:ip` and `:port` say."
  @spec child_spec(term) :: Supervisor.child_spec()
  def child_spec(_) do
    settings = [
      bind_address: Application.fetch_env!(:rate_limiter, :ip),
      # 0 is any that is free: see port/0.
      port: Application.fetch_env!(:rate_limiter, :port),
      modules: [__MODULE__],
      max_clients: 1_000,
      max_body_size: 1_000,
      keep_alive_timeout: 60,
      # It wants these, but there are no files to serve.
      server_name: ~c"rate_limiter",
      server_root: ~c"/",
      document_root: ~c"/"
    ]

    %{
      id: __MODULE__,
      start: {:inets, :start, [:httpd, settings, :stand_alone]},
      type: :supervisor
    }
  end

  @doc "The port on which the server of this application listens."
  @spec port() :: :inet.port_number()
  def port do
    children = Supervisor.which_children(RateLimiter.Supervisor)
    {__MODULE__, httpd, _, _} = List.keyfind(children, __MODULE__, 0)
    [{{:httpd_instance_sup, _ip, port, _profile}, _, _, _}] = Supervisor.which_children(httpd)
    port
  end

  # What `:httpd` calls for each request. The answer is sent from here: of 429, `:httpd` itself
  # would say that it means "Internal Server Error".
  @doc false
  def unquote(:do)(request) do
    method = to_string(mod(request, :method))
    {status, headers, body} = answer_or_log(method, to_string(mod(request, :request_uri)))

    head = [
      "HTTP/1.1 #{status} #{@phrases[status]}\r\n",
      "date: #{:httpd_util.rfc1123_date()}\r\n",
      for({name, value} <- headers, do: "#{name}: #{value}\r\n"),
      "content-length: #{IO.iodata_length(body)}\r\n",
      if(mod(request, :connection), do: [], else: "connection: close\r\n"),
      "\r\n"
    ]

    # If the client has hung up, `:httpd` hears of it by itself.
    _ = :gen_tcp.send(mod(request, :socket), [head, if(method == "HEAD", do: [], else: body)])
    {:proceed, [response: {:already_sent, status, IO.iodata_length(body)}]}
  end

  defp answer_or_log(method, uri) do
    [path | _query] = String.split(uri, "?")
    answer(method, String.split(path, "/"))
  catch
    kind, reason ->
      Logger.error([method, " ", uri, "\n", Exception.format(kind, reason, __STACKTRACE__)])
      error(500, "that went wrong, and has been logged")
  end

  defp answer("POST", ["", "users", encoded, "take"]) do
    user = URI.decode(encoded)

    if byte_size(user) in 1..64 and String.valid?(user),
      do: take(user),
      else: error(400, "the id of a user is 1 to 64 bytes of UTF-8")
  end

  defp answer(read, ["", "stats"]) when read in ["GET", "HEAD"], do: json(200, [], stats())
  defp answer(read, ["", ""]) when read in ["GET", "HEAD"], do: page()

  defp answer(_other, ["", "users", _, "take"]), do: error(405, "use POST", [{"allow", "POST"}])
  defp answer(_other, ["", "stats"]), do: error(405, "use GET", [{"allow", "GET, HEAD"}])
  defp answer(_other, ["", ""]), do: error(405, "use GET", [{"allow", "GET, HEAD"}])
  defp answer(_any, _path), do: error(404, "there is /, /stats and /users/ID/take")

  defp take(user) do
    limit = {"ratelimit-limit", RateLimiter.limit().capacity}

    case RateLimiter.take(user) do
      {:ok, left} ->
        json(200, [limit, {"ratelimit-remaining", left}], %{allowed: true, left: left})

      {:error, {:retry_after, milliseconds}} ->
        # Rounded up: who comes back then must find a token.
        seconds = div(milliseconds + 999, 1_000)
        headers = [limit, {"ratelimit-remaining", 0}, {"retry-after", seconds}]
        json(429, headers, %{allowed: false, left: 0, retry_after_ms: milliseconds})
    end
  end

  defp stats do
    snapshot = Stats.snapshot()
    info = GenRegistry.info(Worker)

    %{
      registry: Map.take(info, [:count, :starting, :stopping, :queued, :starters, :memory]),
      limit: RateLimiter.limit(),
      totals: snapshot.totals,
      history: snapshot.history,
      sample: for({user, pid} <- snapshot.sample, tokens = tokens(pid), do: [user, tokens])
    }
  end

  # Of a worker that has just ended, or is too busy to say: nil.
  defp tokens(pid) do
    Worker.tokens(pid, 100)
  catch
    :exit, _ -> nil
  end

  defp page do
    headers = [
      {"content-type", "text/html; charset=utf-8"},
      # The page is one file: nothing else may be loaded, whatever an id looks like.
      {"content-security-policy",
       "default-src 'none'; connect-src 'self'; img-src data:; " <>
         "style-src 'unsafe-inline'; script-src 'unsafe-inline'"}
    ]

    {200, headers, File.read!(Application.app_dir(:rate_limiter, "priv/page.html"))}
  end

  defp error(status, text, headers \\ []), do: json(status, headers, %{error: text})

  defp json(status, headers, value) do
    always = [{"content-type", "application/json"}, {"cache-control", "no-store"}]
    {status, always ++ headers, [Json.encode(value), "\n"]}
  end
end
