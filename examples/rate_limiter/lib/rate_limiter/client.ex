defmodule RateLimiter.Client do
  @moduledoc """
  An HTTP client for one connection, which it keeps open: as little as it takes to
  load a server with many requests.
  """

  @enforce_keys [:socket, :host]
  defstruct [:socket, :host]

  @type t :: %__MODULE__{socket: :gen_tcp.socket(), host: String.t()}
  @type answer :: {status :: 100..599, headers :: %{String.t() => String.t()}, body :: binary}

  @timeout 10_000

  @doc "Connects to the server of a URL such as `\"http://localhost:4000\"`."
  @spec connect(String.t()) :: {:ok, t} | {:error, term}
  def connect(url) do
    %URI{host: host, port: port} = URI.parse(url)
    options = [:binary, active: false, packet: :http_bin, nodelay: true]

    with {:ok, socket} <- :gen_tcp.connect(to_charlist(host), port, options, @timeout) do
      {:ok, %__MODULE__{socket: socket, host: host}}
    end
  end

  @doc "Makes a request without a body, and waits for the answer. Names of headers are in lower case."
  @spec request(t, method :: String.t(), path :: String.t()) :: {:ok, answer} | {:error, term}
  def request(%__MODULE__{socket: socket, host: host}, method, path) do
    request = "#{method} #{path} HTTP/1.1\r\nhost: #{host}\r\ncontent-length: 0\r\n\r\n"

    with :ok <- :gen_tcp.send(socket, request),
         {:ok, {:http_response, _version, status, _phrase}} <- receive_packet(socket),
         {:ok, headers} <- receive_headers(socket, %{}),
         {:ok, body} <- receive_body(socket, String.to_integer(headers["content-length"])) do
      {:ok, {status, headers, body}}
    end
  end

  @doc "Closes the connection."
  @spec close(t) :: :ok
  def close(%__MODULE__{socket: socket}), do: :gen_tcp.close(socket)

  defp receive_headers(socket, headers) do
    case receive_packet(socket) do
      {:ok, {:http_header, _, name, _, value}} ->
        receive_headers(socket, Map.put(headers, String.downcase(to_string(name)), value))

      {:ok, :http_eoh} ->
        {:ok, headers}

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp receive_body(_socket, 0), do: {:ok, ""}

  defp receive_body(socket, length) do
    :ok = :inet.setopts(socket, packet: :raw)

    with {:ok, body} <- :gen_tcp.recv(socket, length, @timeout) do
      :ok = :inet.setopts(socket, packet: :http_bin)
      {:ok, body}
    end
  end

  defp receive_packet(socket) do
    case :gen_tcp.recv(socket, 0, @timeout) do
      {:ok, {:http_error, line}} -> {:error, {:not_http, line}}
      other -> other
    end
  end
end
