# What `:erlang.system_monitor/2` tells of processes that kept a scheduler for ten milliseconds or more.
# While the tests run, those inside the library's calls are written to the file $LONG_SCHEDULES:
#
#   LONG_SCHEDULES=file elixir -r check/long_schedules.exs -S mix test
#
# Beside them, a process does nothing but be on a scheduler, five milliseconds of each thirty: what is
# "nothing" in the file says how long the machine keeps anyone waiting.
#
# A process is inside our calls if the function in which the scheduler took it up, or the one in which it
# left it, is one of ours. That may be chance, where something else took long in between.

defmodule LongSchedules do
  @milliseconds 10

  def watch do
    test = self()

    watcher =
      :erlang.spawn_opt(
        fn ->
          :erlang.system_monitor(self(), [{:long_schedule, @milliseconds}])
          send(test, {self(), :watching})
          loop([])
        end,
        priority: :max
      )

    receive do: ({^watcher, :watching} -> watcher)
  end

  @doc "As `watch/0`, beside a process that calls nothing of ours."
  def watch_tests do
    watch()
    Process.register(spawn(&nothing/0), LongSchedules.Nothing)
  end

  defp nothing do
    receive after: (25 -> spin(System.monotonic_time(:millisecond) + 5))
    nothing()
  end

  defp spin(until) do
    :erlang.phash2(until)
    if System.monotonic_time(:millisecond) < until, do: spin(until)
  end

  @doc "Those since it was asked last: `{process, milliseconds, in, out}`."
  def take(watcher) do
    # What the VM has to tell it tells when a process has left its scheduler.
    receive after: (50 -> send(watcher, {:take, self()}))
    receive do: ({^watcher, seen} -> seen)
  end

  defp loop(seen) do
    receive do
      {:monitor, process, :long_schedule, info} ->
        if file = System.get_env("LONG_SCHEDULES"), do: tell(file, process, info)
        loop([{process, info[:timeout], info[:in], info[:out]} | seen])

      {:take, from} ->
        send(from, {self(), seen})
        loop([])
    end
  end

  # Where it was, by which it is known again, and for how long.
  defp tell(file, process, info) do
    kind =
      cond do
        process == Process.whereis(LongSchedules.Nothing) -> "nothing"
        Enum.any?([info[:in], info[:out]], &ours?/1) -> "inside"
        true -> "elsewhere"
      end

    where = "#{kind}: in #{inspect(info[:in])}, out #{inspect(info[:out])}"
    File.write!(file, "#{where}\t#{info[:timeout]}\n", [:append])
  end

  # The library's modules, and not the tests'.
  defp ours?({module, _, _}) do
    case :code.is_loaded(module) do
      {:file, _} ->
        module.module_info(:compile)[:source]
        |> to_string()
        |> String.contains?("/lib/gen_registry")

      false ->
        false
    end
  end

  defp ours?(_), do: false
end

if System.get_env("LONG_SCHEDULES"), do: LongSchedules.watch_tests()
