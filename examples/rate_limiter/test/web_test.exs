defmodule RateLimiter.WebTest do
  use RateLimiter.Case

  import ExUnit.CaptureLog

  alias RateLimiter.{Client, Worker}

  @moduletag capture_log: true

  setup do
    {:ok, client} = Client.connect(url())
    %{client: client}
  end

  describe "POST /users/ID/take" do
    test "tells what is left, on one connection", %{client: client} do
      for left <- 9..0//-1 do
        {status, headers, body} = request(client, "POST", "/users/alice/take")

        assert {status, body} == {200, ~s({"allowed":true,"left":#{left}}\n)}
        assert headers["ratelimit-limit"] == "10"
        assert headers["ratelimit-remaining"] == "#{left}"
        assert headers["content-type"] == "application/json"
        assert headers["cache-control"] == "no-store"
      end

      {status, headers, body} = request(client, "POST", "/users/alice/take")
      assert status == 429
      assert headers["ratelimit-remaining"] == "0"
      assert [_, ms] = Regex.run(~r/^{"allowed":false,"left":0,"retry_after_ms":(\d+)}\n$/, body)
      # An hour, less what the requests took. In seconds, it is rounded up.
      assert String.to_integer(ms) in 3_000_000..3_600_000
      assert headers["retry-after"] == "#{ceil(String.to_integer(ms) / 1_000)}"
    end

    test "many connections at once get no more than there is" do
      statuses =
        1..20
        |> Task.async_stream(
          fn _ ->
            {:ok, client} = Client.connect(url())
            for _ <- 1..10, do: elem(request(client, "POST", "/users/alice/take"), 0)
          end,
          max_concurrency: 20
        )
        |> Enum.flat_map(fn {:ok, statuses} -> statuses end)

      assert Enum.frequencies(statuses) == %{200 => 10, 429 => 190}
    end

    test "takes any text as an id", %{client: client} do
      for id <- ["alice", "zoë", "a/b?c#d", "100 %", "<b>", "☃"] do
        {200, _, _} =
          request(client, "POST", "/users/#{URI.encode(id, &URI.char_unreserved?/1)}/take")

        assert {:ok, _pid} = GenRegistry.lookup(Worker, id)
      end
    end

    test "but none that is empty, too long or no text", %{client: client} do
      long = String.duplicate("a", 64)
      {200, _, _} = request(client, "POST", "/users/#{long}/take")

      # Newer versions of `:httpd` take `//` for `/`.
      {status, _, _} = request(client, "POST", "/users//take")
      assert status in [400, 404]

      for id <- ["a" <> long, "%FF", "%C3"] do
        {status, headers, body} = request(client, "POST", "/users/#{id}/take")
        assert {status, headers["content-type"]} == {400, "application/json"}
        assert body == ~s({"error":"the id of a user is 1 to 64 bytes of UTF-8"}\n)
      end

      assert GenRegistry.count(Worker) == 1
    end
  end

  test "the page may load nothing else", %{client: client} do
    {200, headers, body} = request(client, "GET", "/")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"] =~ "default-src 'none'"
    assert body =~ "</html>"
  end

  test "other methods and paths", %{client: client} do
    for {method, path, status, allow} <- [
          {"GET", "/users/alice/take", 405, "POST"},
          {"POST", "/", 405, "GET, HEAD"},
          {"POST", "/stats", 405, "GET, HEAD"},
          {"GET", "/users/alice", 404, nil},
          {"GET", "/favicon.ico", 404, nil},
          {"GET", "/../../etc/passwd", 404, nil},
          {"GET", "/stats?callback=evil", 200, nil}
        ] do
      {got, headers, _body} = request(client, method, path)
      assert {method, path, got, headers["allow"]} == {method, path, status, allow}
    end
  end

  test "what is not right in HTTP itself is answered, and others are not disturbed", %{
    client: client
  } do
    for {request, status} <- [
          {"POST /users/%zz/take HTTP/1.1\r\nhost: x\r\n\r\n", "400"},
          {"GET /stats HTTP/1.1\r\n\r\n", "400"},
          {"JUMP / HTTP/1.1\r\nhost: x\r\n\r\n", "501"},
          {"POST /users/a/take HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n", "413"}
        ] do
      assert raw(request) =~ ~r"^HTTP/1.1 #{status} "
    end

    {200, _, _} = request(client, "POST", "/users/alice/take")
  end

  test "HEAD has no body, and a connection is closed when that is asked for" do
    answer = raw("HEAD /stats HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer =~ ~r"^HTTP/1.1 200 OK\r\n.*content-length: \d+\r\nconnection: close\r\n\r\n$"s
  end

  test "while the registry is away requests fail, and are served again after that", %{
    client: client
  } do
    :ok = Supervisor.terminate_child(RateLimiter.Supervisor, Worker)

    log =
      capture_log(fn ->
        {500, _, body} = request(client, "POST", "/users/alice/take")
        assert body == ~s({"error":"that went wrong, and has been logged"}\n)
      end)

    assert log =~ "POST /users/alice/take"
    assert log =~ "RateLimiter.Worker"

    {:ok, _} = Supervisor.restart_child(RateLimiter.Supervisor, Worker)
    {200, _, _} = request(client, "POST", "/users/alice/take")
  end

  defp request(client, method, path) do
    {:ok, answer} = Client.request(client, method, path)
    answer
  end

  # All that comes until the server closes the connection.
  defp raw(request) do
    port = RateLimiter.Web.port()
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: true])
    :ok = :gen_tcp.send(socket, request)
    receive_all(socket, "")
  end

  defp receive_all(socket, received) do
    receive do
      {:tcp, ^socket, data} -> receive_all(socket, received <> data)
      {:tcp_closed, ^socket} -> received
      {:tcp_error, ^socket, _} -> received
    end
  end
end
