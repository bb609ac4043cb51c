defmodule GenRegistry.EscriptTest do
  @moduledoc """
  In an escript no native library can be loaded, and `GenRegistry.start_link/2` says so.
  """

  use ExUnit.Case, async: true

  @moduletag :tmp_dir

  test "the message says what to do", %{tmp_dir: tmp_dir} do
    [{module, main}] =
      Code.compile_quoted(
        quote do
          defmodule GenRegistry.EscriptTest.Main do
            def main(_args) do
              GenRegistry.start_link(IdleWorker)
            rescue
              error -> IO.puts("message: " <> Exception.message(error))
            end
          end
        end
      )

    beams =
      for beam <- Path.wildcard(Application.app_dir(:gen_registry, "ebin/*.{beam,app}")) do
        {~c"gen_registry/ebin/" ++ String.to_charlist(Path.basename(beam)), File.read!(beam)}
      end

    beams = [{~c"main/ebin/#{module}.beam", main} | beams]

    paths = for application <- [:elixir, :logger], do: Application.app_dir(application, "ebin")

    script = Path.join(tmp_dir, "script")

    {:ok, bytes} =
      :escript.create(:binary, [
        :shebang,
        {:emu_args, ~c"-escript main #{module} -pa #{Enum.join(paths, " -pa ")}"},
        {:archive, beams, []}
      ])

    File.write!(script, bytes)
    escript = Path.join(:code.root_dir(), "bin/escript")
    {output, 0} = System.cmd(escript, [script], stderr_to_stdout: true)
    assert output =~ "message: the native library of GenRegistry could not be loaded"
    assert output =~ "An escript is a single file"
  end
end
