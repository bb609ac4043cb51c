# The NIF with its doors (native/gen_registry_nif/src/doors.rs), in place of the library's own:
# `GenRegistry.Native` with more functions, from the library that $DOORS names. To be run before
# anything calls the NIF.

# Each point in the code that was passed: name, how often, all stays together in nanoseconds of the
# thread's CPU time, and the longest of them, the longest first. Nothing is known, and nothing planted comes, but since
# `door_watch(true)`.
doors = [door_points: 0, door_watch: 1]

# The next to come to this point panics; whether it has not come yet.
doors = doors ++ [door_plant: 1, door_planted: 0]

# Frees what readers may look at no more; how many blocks and bytes the NIF has from the allocator;
# nanoseconds that the thread has had a processor for; some memory taken, written and given back.
doors = doors ++ [door_collect: 0, door_allocated: 0, door_cpu_time: 0, door_nothing: 0]

# Enters an id for the nth process that is not there; what the VM calls when that is dead.
doors = doors ++ [door_insert: 3, door_down: 2]

# So many integers whose hashes, as ETS makes them, have the same low bits, from an integer on.
doors = doors ++ [door_mine: 3]

stubs =
  for {name, arity} <- doors do
    arguments = List.duplicate({:_, [], nil}, arity)

    quote do
      def unquote(name)(unquote_splicing(arguments)), do: :erlang.nif_error(:nif_not_loaded)
    end
  end

load =
  quote do
    def load, do: :erlang.load_nif(String.to_charlist(System.fetch_env!("DOORS")), 0)
  end

own_load? = &match?({:def, _, [{:load, _, _} | _]}, &1)

{:defmodule, context, [name, [do: {:__block__, _, body}]]} =
  "lib/gen_registry/native.ex" |> File.read!() |> Code.string_to_quoted!()

# Or else the compiler loads the library's own first, to warn that there are two.
Code.put_compiler_option(:ignore_module_conflict, true)
body = Enum.reject(body, own_load?) ++ [load | stubs]
Code.compile_quoted({:defmodule, context, [name, [do: {:__block__, [], body}]]})

defmodule Check do
  @moduledoc "What the parts share."

  @doc "The part's figure, as far as it has got."
  def figure(text), do: File.write!(System.fetch_env!("FIGURE"), text <> "\n")

  @doc "A setting of the environment, so that a part can be tried small."
  def setting(name, default), do: String.to_integer(System.get_env(name, "#{default}"))

  @doc "Ends the VM, with a failure if anything fell short."
  def finish([]), do: :ok

  def finish(failures) do
    for failure <- failures, do: IO.puts("FAILED: #{failure}")
    System.halt(1)
  end
end
