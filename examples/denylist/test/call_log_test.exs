defmodule Denylist.CallLogTest do
  use ExUnit.Case, async: true

  alias Denylist.CallLog

  @moduletag :tmp_dir

  test "reads calls and rule changes" do
    assert CallLog.parse("call,+442079460123,+12015550123\n") ==
             {:ok, {:call, "+442079460123", "+12015550123"}}

    assert CallLog.parse("deny,+12015550123,+44*\r\n") == {:ok, {:deny, "+12015550123", "+44*"}}

    assert CallLog.parse("allow,+12015550123,+442079460123") ==
             {:ok, {:allow, "+12015550123", "+442079460123"}}
  end

  test "skips blank lines and comments" do
    for line <- ["", "\n", "  \r\n", "# a comment, with commas\n"] do
      assert CallLog.parse(line) == :skip
    end
  end

  test "says what is wrong with a line" do
    for {line, message} <- [
          {"ring,+12015550123", ~s("ring" is none of call, deny, allow)},
          {"call,+12015550123", "call needs 2 fields after it, not 1"},
          {"call,12015550123,+44*", ~s(sender "12015550123" is not an E.164 number)},
          {"call,+12015550123,+44*", ~s(recipient "+44*" is not an E.164 number)},
          {"call,+12015550123,+1201555012345678",
           ~s(recipient "+1201555012345678" is not an E.164 number)},
          {"deny,,+44*", ~s(recipient "" is not an E.164 number)},
          {"allow,+12015550123,44",
           ~s(rule "44" is neither an E.164 number nor a prefix such as +44*)},
          {"\xFF\e[31m\n", ~s("??[31m" is none of call, deny, allow)}
        ] do
      assert CallLog.parse(line) == {:error, message}
    end
  end

  test "reads files, compressed or not", %{tmp_dir: tmp_dir} do
    plain = Path.join(tmp_dir, "calls.csv")
    compressed = Path.join(tmp_dir, "calls.csv.gz")
    File.write!(plain, "one\ntwo\n")
    File.write!(compressed, "one\ntwo\n", [:compressed])

    assert Enum.to_list(CallLog.lines(plain)) == ["one\n", "two\n"]
    assert Enum.to_list(CallLog.lines(compressed)) == ["one\n", "two\n"]
    assert File.read!(compressed) != "one\ntwo\n"
  end
end
