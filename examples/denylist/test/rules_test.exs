defmodule Denylist.RulesTest do
  use ExUnit.Case, async: true

  alias Denylist.Rules

  test "without rules everybody may call" do
    assert Rules.allow?(Rules.new(), "+442079460123")
  end

  test "a number denies that sender only" do
    rules = Rules.deny(Rules.new(), "+442079460123")

    refute Rules.allow?(rules, "+442079460123")
    assert Rules.allow?(rules, "+44207946012")
    assert Rules.allow?(rules, "+4420794601234")
  end

  test "a prefix denies every sender that begins with it" do
    rules = Rules.deny(Rules.new(), "+44*")

    refute Rules.allow?(rules, "+442079460123")
    refute Rules.allow?(rules, "+447400123456")
    assert Rules.allow?(rules, "+4312345678")
  end

  test "a rule taken back leaves the others" do
    rules = Rules.new(["+44*", "+4420*", "+12015550123"])

    refute rules |> Rules.allow("+44*") |> Rules.allow?("+442079460123")
    assert rules |> Rules.allow("+44*") |> Rules.allow?("+447400123456")
    assert rules |> Rules.allow("+44*") |> Rules.to_list() == ["+12015550123", "+4420*"]
  end
end
