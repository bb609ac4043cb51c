Logger.configure(level: :warning)
# Upper bounds, for busy machines: what is waited for is there at once as a rule.
ExUnit.start(assert_receive_timeout: 60_000, timeout: 600_000)
