# An upper bound, for busy machines: what is waited for is there at once as a rule.
ExUnit.start(assert_receive_timeout: 10_000)
