defmodule RateLimiter.JsonTest do
  use ExUnit.Case, async: true

  alias RateLimiter.Json

  doctest Json

  test "texts of any kind" do
    for {text, json} <- [
          {"", ~S("")},
          {~S(a"b\c), ~S("a\"b\\c")},
          {"\0\n\x1F", ~S("\u0000\u000A\u001F")},
          {"zoë 💡 </script>", ~S("zoë 💡 </script>")}
        ] do
      assert IO.iodata_to_binary(Json.encode(text)) == json
    end
  end

  test "all the rest" do
    value = %{list: [[], %{}, -1, true, false, nil]}
    assert IO.iodata_to_binary(Json.encode(value)) == ~S({"list":[[],{},-1,true,false,null]})
  end
end
