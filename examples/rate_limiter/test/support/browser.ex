defmodule RateLimiter.Browser do
  @moduledoc """
  A headless Chromium, driven by `chromedriver` in the protocol that all browsers have
  for it: [WebDriver](https://www.w3.org/TR/webdriver2/), JSON over HTTP.
  """

  alias RateLimiter.Json

  @enforce_keys [:driver, :session]
  defstruct [:driver, :session]

  # Without a sandbox, which containers do not allow, and without words to the outside.
  @arguments ~w(--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic
    --no-first-run --disable-background-networking --disable-component-update --disable-sync
    --hide-scrollbars --window-size=1200,1100)

  # Without settings for TLS, `:httpc` makes some, which takes applications that are not needed here.
  @http_options [timeout: 120_000, ssl: []]

  @doc "Whether there is one on this machine."
  def there?, do: System.find_executable("chromedriver") != nil

  @doc "Starts a browser with a profile in this empty directory. It ends with the calling process."
  def start(profile) do
    {:ok, _} = Application.ensure_all_started(:inets)

    # Its input closes when we end, however we do: then the shell ends the driver and what that
    # has started.
    script = "set -m; chromedriver --port=0 & cat >/dev/null; kill -- -$!"
    options = [:binary, :stderr_to_stdout, args: ["-c", script]]
    port = Port.open({:spawn_executable, System.find_executable("bash")}, options)
    driver = "http://127.0.0.1:#{driver_port(port, "")}"

    capabilities = %{
      "goog:chromeOptions": %{args: @arguments ++ ["--user-data-dir=#{profile}"]},
      "goog:loggingPrefs": %{browser: "ALL"},
      timeouts: %{script: 60_000}
    }

    answer = request(driver, "/session", %{capabilities: %{alwaysMatch: capabilities}})
    [_, session] = Regex.run(~r/"sessionId":"(\w+)"/, answer)
    %__MODULE__{driver: driver, session: session}
  end

  @doc "Opens a page, and waits until it has loaded."
  def open(browser, url), do: command(browser, "url", %{url: url})

  @doc "The value of an expression of JavaScript, as a text."
  def value(browser, expression) do
    # Encoded, so that no parser of JSON is needed.
    script = "return encodeURIComponent(String(#{expression}))"
    answer = command(browser, "execute/sync", %{script: script, args: []})
    [_, value] = Regex.run(~r/"value":"([^"]*)"/, answer)
    URI.decode(value)
  end

  @doc "Waits until an expression of JavaScript is true: it is asked whenever the page changes."
  def await(browser, expression) do
    script = """
    const check = () => { if (#{expression}) { observer.disconnect(); arguments[0](); } };
    const observer = new MutationObserver(check);
    observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
    check();
    """

    command(browser, "execute/async", %{script: script, args: []})
    :ok
  end

  @doc "Whatever the console holds, as JSON: `[]` is nothing."
  def console(browser) do
    [_, entries] = Regex.run(~r/"value":(.*)}$/s, command(browser, "se/log", %{type: "browser"}))
    entries
  end

  @doc "A picture of what is to be seen, as PNG."
  def screenshot(browser) do
    url = ~c"#{browser.driver}/session/#{browser.session}/screenshot"

    {:ok, {{_, 200, _}, _, answer}} =
      :httpc.request(:get, {url, []}, @http_options, body_format: :binary)

    [_, picture] = Regex.run(~r/"value":"([^"]*)"/, answer)
    Base.decode64!(picture)
  end

  defp command(browser, name, body) do
    request(browser.driver, "/session/#{browser.session}/#{name}", body)
  end

  defp request(driver, path, body) do
    request =
      {~c"#{driver}#{path}", [], ~c"application/json", IO.iodata_to_binary(Json.encode(body))}

    case :httpc.request(:post, request, @http_options, body_format: :binary) do
      {:ok, {{_, 200, _}, _, answer}} -> answer
      {:ok, {{_, _, _}, _, answer}} -> raise "#{path}: #{answer}"
      {:error, reason} -> raise "#{path}: #{inspect(reason)}"
    end
  end

  # It says on which port it listens.
  defp driver_port(port, said) do
    receive do
      {^port, {:data, data}} ->
        case Regex.run(~r/on port (\d+)\./, said <> data) do
          [_, number] -> number
          nil -> driver_port(port, said <> data)
        end
    after
      60_000 -> raise "chromedriver does not start: #{said}"
    end
  end
end
