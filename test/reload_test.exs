defmodule GenRegistry.ReloadTest do
  @moduledoc """
  The NIF's module loaded again, deleted, purged, upgraded: the registry works on, or what needs it
  fails with an error. Each case has a VM of its own, which has to live through it.

  `script/check reload` has this run on each supported OTP.
  """

  use ExUnit.Case, async: true

  @moduletag :tmp_dir

  setup do
    {:ok, vm: start_supervised!({OtherVM, {:vm, %{}, []}})}
  end

  # `case` is what a test does there to the code of the registry that it gets.
  defp assert_lives(vm, quoted) do
    assert OtherVM.eval(
             vm,
             quote do
               var!(registry) = Reload.begin()
               unquote(quoted)
               :lived
             end
           ) == :lived
  end

  test "loaded again and again", %{vm: vm} do
    assert_lives(
      vm,
      quote do
        for _ <- 1..3 do
          {:error, :on_load_failure} = Reload.load()
          Reload.works!(var!(registry))
          # As `l/1` does in `iex`.
          Reload.purge()
          {:error, :on_load_failure} = :code.load_file(GenRegistry.Native)
          Reload.works!(var!(registry))
        end
      end
    )
  end

  test "purged", %{vm: vm} do
    assert_lives(
      vm,
      quote do
        for purge <- [:purge, :soft_purge, :purge] do
          apply(:code, purge, [GenRegistry.Native])
          Reload.works!(var!(registry))
        end
      end
    )
  end

  # There is no code for the table until what was deleted is purged too.
  test "deleted", %{vm: vm} do
    assert_lives(
      vm,
      quote do
        Reload.delete()
        UndefinedFunctionError = Reload.failure(fn -> GenRegistry.lookup(R, :resident) end)
        UndefinedFunctionError = Reload.failure(fn -> GenRegistry.start(R, :other) end)
        {:error, :on_load_failure} = Reload.load()
        Reload.end_process(var!(registry).resident)
        Reload.purge()
        Reload.restart(var!(registry))
        Reload.serves!()
      end
    )
  end

  # Reads work, and the VM undoes what ends. What writes has the handle of a table that it does not
  # know: it fails, and its supervisor starts the registry anew.
  test "deleted and purged", %{vm: vm} do
    assert_lives(
      vm,
      quote do
        resident = var!(registry).resident
        Reload.delete()
        Reload.purge()
        {:ok, ^resident} = GenRegistry.lookup(R, :resident)
        Reload.end_process(resident)
        {:error, :not_found} = GenRegistry.lookup(R, :resident)
        {:error, {:starter_died, {:badarg, _}}} = GenRegistry.start(R, :other)
        Reload.restart(var!(registry))
        Reload.serves!()
      end
    )
  end

  test "deleted, purged and loaded while a registry runs, over and over", %{vm: vm} do
    assert_lives(
      vm,
      quote do
        for round <- 1..20 do
          for id <- 1..50, do: {:ok, _} = GenRegistry.lookup_or_start(R, id)
          Reload.delete()
          Reload.purge()
          {:module, _} = Reload.load()
          Reload.restart(var!(registry))
          Reload.serves!()
          Reload.settled!()
        end
      end
    )
  end

  test "deleted, purged and loaded while none runs", %{vm: vm} do
    assert_lives(
      vm,
      quote do
        for _ <- 1..5 do
          :ok = Supervisor.terminate_child(var!(registry).supervisor, R)
          Reload.delete()
          Reload.purge()
          {:module, _} = Reload.load()
          Reload.restart(var!(registry))
          Reload.serves!()
        end
      end
    )
  end

  test "loaded from elsewhere", %{vm: vm, tmp_dir: dir} do
    release = Reload.release(dir, version(), "99.0.0", [])

    assert_lives(
      vm,
      quote do
        :code.add_patha(unquote(release) ++ ~c"/ebin")
        {:error, :on_load_failure} = Reload.load()
        Reload.works!(var!(registry))
      end
    )
  end

  # As a release upgrade does: a directory of its own, and the application's `.appup`. After the second
  # one there is nothing left of the code with which the processes began.
  test "left alone by an upgrade of all other modules, twice", %{vm: vm, tmp_dir: dir} do
    first = Reload.release(dir, version(), "98.0.0", compile("first"))
    second = Reload.release(dir, "98.0.0", "99.0.0", compile("second"))

    assert_lives(
      vm,
      quote do
        {:ok, _} = Application.ensure_all_started(:gen_registry)

        for release <- unquote([first, second]) do
          processes = Reload.processes(var!(registry))
          {:ok, []} = :release_handler.upgrade_app(:gen_registry, release)
          ^processes = Reload.processes(var!(registry))
          Reload.works!(var!(registry))
        end

        1 = GenRegistry.Server.second()
      end
    )
  end

  test "part of an upgrade, which fails", %{vm: vm, tmp_dir: dir} do
    native = {GenRegistry.Native, File.read!(:code.which(GenRegistry.Native))}
    release = Reload.release(dir, version(), "99.0.0", [native])

    assert_lives(
      vm,
      quote do
        {:ok, _} = Application.ensure_all_started(:gen_registry)
        {:EXIT, reason} = :release_handler.upgrade_app(:gen_registry, unquote(release))
        {:EXIT, {{:badmatch, {:error, :on_load_failure}}, _}} = reason
        Reload.works!(var!(registry))
      end
    )
  end

  defp version do
    {:ok, version} = :application.get_key(:gen_registry, :vsn)
    version
  end

  # In a VM that is of no use after that.
  defp compile(new) do
    compiler = start_supervised!({OtherVM, {new, %{}, []}})
    files = Path.wildcard(Path.expand("../lib/**/*.ex", __DIR__))
    files = Enum.reject(files, &(Path.basename(&1) == "native.ex"))
    OtherVM.eval(compiler, quote(do: Reload.compile(unquote(files), unquote(new))))
  end
end
