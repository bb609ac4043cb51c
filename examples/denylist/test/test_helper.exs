Logger.configure(level: :warning)
ExUnit.start()
