Logger.configure(level: :warning)

# The page is looked at in a browser. `script/setup test` installs one.
unless RateLimiter.Browser.there?() do
  IO.puts(:stderr, "There is no chromedriver: the tests of the page are left out.")
  ExUnit.configure(exclude: :browser)
end

# Upper bounds, for busy machines: what is waited for is there at once as a rule.
ExUnit.start(assert_receive_timeout: 60_000, timeout: 600_000)
