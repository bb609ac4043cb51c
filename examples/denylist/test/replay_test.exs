defmodule Denylist.ReplayTest do
  use Denylist.Case

  import ExUnit.CaptureIO

  alias Denylist.Replay

  @alice "+12015550123"
  @bob "+442079460123"

  describe "Denylist.Replay" do
    test "counts calls and rule changes" do
      log = ["call,#{@bob},#{@alice}", "deny,#{@alice},#{@bob}", "call,#{@bob},#{@alice}"]

      assert Replay.run(log) == %Replay{placed: 1, rejected: 1, changes: 1}
      assert Replay.run([]) == %Replay{}
    end

    test "reports malformed lines by their numbers, and goes on" do
      log = [
        "call,#{@bob},#{@alice}",
        "",
        "call,#{@bob}",
        "# ring",
        "ring",
        "deny,#{@alice},+44*"
      ]

      replay = Replay.run(log)

      assert %{placed: 1, changes: 1, malformed: 2} = replay
      assert [{5, ring}, {3, call}] = replay.problems
      assert ring =~ "none of call, deny, allow"
      assert call =~ "needs 2 fields"
    end

    test "keeps only the first problems" do
      replay = Replay.run(List.duplicate("ring", 1_000))

      assert replay.malformed == 1_000
      assert Enum.map(replay.problems, &elem(&1, 0)) == Enum.to_list(10..1//-1)
    end

    test "keeps the order of each recipient's events, over many readers and chunks" do
      recipients = for n <- 1_000..1_099, do: "+1201555#{n}"

      log =
        for _round <- 1..50,
            line <- ["call,#{@bob},~", "deny,~,+44*", "call,#{@bob},~", "allow,~,+44*"],
            recipient <- recipients,
            do: String.replace(line, "~", recipient)

      assert Replay.run(log) == %Replay{placed: 5_000, rejected: 5_000, changes: 10_000}
    end
  end

  describe "mix denylist.replay" do
    setup %{tmp_dir: tmp_dir} do
      # The task starts the application itself, as it does from the command line.
      stop()
      %{args: ["-", "--data", Path.join(tmp_dir, "data")]}
    end

    test "reads standard input and keeps the rules for the next run", %{args: args} do
      first =
        replay(args, """
        call,#{@bob},#{@alice}
        deny,#{@alice},+44*
        deny,#{@alice},#{@alice}
        ring,ring
        """)

      assert first =~ ~r/calls placed +1 +100.0 %\n/
      assert first =~ ~r/workers started +1 /
      assert first =~ ~r/workers found running +2 +66.7 % of the lookups\n/
      assert first =~ ~r/rules at the start +0 +of 0 numbers\n/
      assert first =~ ~r/rule changes +2\n/
      assert first =~ ~r/rules at the end +2 +of 1 numbers\n/
      assert first =~ ~r/malformed lines +1\n +line 4: "ring" is none of/

      second = replay(args, "call,#{@bob},#{@alice}\n")

      assert second =~ ~r/calls rejected +1 +100.0 %\n/
      assert second =~ ~r/rules at the start +2 +of 1 numbers\n/
    end

    test "bytes that are no text are a malformed line", %{args: args} do
      output = replay(args, "call,\xFF\xFE,#{@alice}\ncall,#{@bob},#{@alice}\n")

      assert output =~ ~r/calls placed +1 /
      assert output =~ ~s(line 1: sender "??" is not an E.164 number)
    end

    test "says how it is used" do
      assert_raise Mix.Error, ~r/Usage/, fn -> Mix.Tasks.Denylist.Replay.run(["one", "two"]) end
      assert_raise Mix.Error, ~r/no file/, fn -> Mix.Tasks.Denylist.Replay.run(["missing"]) end
    end

    defp replay(args, input) do
      Mix.Task.reenable("app.start")

      capture_io([input: input, capture_prompt: false], fn ->
        Mix.Tasks.Denylist.Replay.run(args)
      end)
    end
  end
end
