defmodule RateLimiter.PageTest do
  @moduledoc "Looks at the live page in a browser, as a person would."

  use RateLimiter.Case

  alias RateLimiter.{Browser, Client, Worker}

  @moduletag :browser
  @moduletag :tmp_dir

  setup %{tmp_dir: tmp_dir} do
    %{browser: Browser.start(Path.join(tmp_dir, "profile"))}
  end

  test "shows what the registry has, as it changes", %{browser: browser, tmp_dir: tmp_dir} do
    {:ok, client} = Client.connect(url())
    # Ids that would do harm, were they taken for anything but text.
    for n <- 1..30, _ <- 1..12, do: take(client, "<img src=x onerror=alert(#{n})>")

    Browser.open(browser, url())
    Browser.await(browser, text("count") <> " == '30'")
    assert Browser.value(browser, text("started")) == "30"
    assert Browser.value(browser, text("limit")) =~ "10 tokens each"
    assert Browser.value(browser, text("state")) == "live"

    # The charts are drawn: each line of each has a path, and that of the workers a height.
    for {chart, lines} <- [workers: 1, requests: 2, starts: 2, latency: 2] do
      Browser.await(browser, "document.querySelectorAll('##{chart} .line').length >= #{lines}")
    end

    Browser.await(browser, "document.querySelector('#workers .area').getBBox().height > 30")
    Browser.await(browser, "document.querySelector('#requests').ariaLabel.includes('allowed')")

    # The sample: users by their own names, each with an empty bucket.
    Browser.await(browser, "document.querySelectorAll('#sample li').length > 3")

    assert Browser.value(browser, "document.querySelector('#sample b').textContent") =~
             "<img src=x"

    assert Browser.value(browser, "document.querySelectorAll('#sample img').length") == "0"
    assert Browser.value(browser, "document.querySelector('#sample i').textContent") == "0"

    # It is live: more users, then fewer.
    for n <- 1..5, do: take(client, "user-#{n}")
    Browser.await(browser, text("count") <> " == '35'")
    for n <- 1..5, do: :ok = GenRegistry.stop(Worker, "user-#{n}")
    Browser.await(browser, text("count") <> " == '30'")

    assert Browser.console(browser) == "[]"
    File.write!(Path.join(tmp_dir, "page.png"), Browser.screenshot(browser))
  end

  test "lets a person be a user", %{browser: browser} do
    Browser.open(browser, url())

    press =
      "(document.querySelector('#user').value = 'zoë / co?', document.querySelector('#take button').click())"

    for left <- 9..0//-1 do
      Browser.value(browser, press)
      Browser.await(browser, text("answer") <> " == '200 OK#{left} tokens left'")
    end

    Browser.value(browser, press)
    Browser.await(browser, text("answer") <> ".startsWith('429 Too Many Requests')")
    assert {:ok, _pid} = GenRegistry.lookup(Worker, "zoë / co?")
  end

  test "says when the server is gone, and goes on when it is back", %{browser: browser} do
    port = RateLimiter.Web.port()
    Browser.open(browser, url())
    Browser.await(browser, text("state") <> " == 'live'")
    stop()
    Browser.await(browser, text("state") <> " == 'no answer, trying again'")

    Application.put_env(:rate_limiter, :port, port, persistent: true)
    start()
    Browser.await(browser, text("state") <> " == 'live'")
  end

  defp take(client, user) do
    {:ok, {status, _, _}} =
      Client.request(client, "POST", "/users/#{URI.encode(user, &URI.char_unreserved?/1)}/take")

    true = status in [200, 429]
  end

  defp text(id), do: "document.getElementById('#{id}').textContent"
end
