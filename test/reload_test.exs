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
    assert_lives(
      vm,
      quote do
        release = Reload.release(unquote(dir), "2.0.0", "2.0.1", [])
        :code.add_patha(release ++ ~c"/ebin")
        {:error, :on_load_failure} = Reload.load()
        Reload.works!(var!(registry))
      end
    )
  end

  # As a release upgrade does: a directory of its own, and the application's `.appup`.
  test "left alone by an upgrade of all other modules, twice", %{vm: vm, tmp_dir: dir} do
    assert_lives(
      vm,
      quote do
        {:ok, _} = Application.ensure_all_started(:gen_registry)
        modules = Reload.modules() -- [GenRegistry.Native]
        {:ok, version} = :application.get_key(:gen_registry, :vsn)

        for {from, to} <- [{version, "98.0.0"}, {"98.0.0", "99.0.0"}] do
          processes = Reload.processes(var!(registry))
          release = Reload.release(unquote(dir), from, to, modules)
          {:ok, []} = :release_handler.upgrade_app(:gen_registry, release)
          Reload.works!(var!(registry))
          ^processes = Reload.processes(var!(registry))
        end
      end
    )
  end

  test "part of an upgrade, which fails", %{vm: vm, tmp_dir: dir} do
    assert_lives(
      vm,
      quote do
        {:ok, _} = Application.ensure_all_started(:gen_registry)
        {:ok, version} = :application.get_key(:gen_registry, :vsn)
        release = Reload.release(unquote(dir), version, "99.0.0", [GenRegistry.Native])
        {:EXIT, reason} = :release_handler.upgrade_app(:gen_registry, release)
        {:EXIT, {{:badmatch, {:error, :on_load_failure}}, _}} = reason
        Reload.works!(var!(registry))
      end
    )
  end
end
