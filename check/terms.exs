# The zoo (test/support/zoo.ex) in the real VM: each term as an id, alone and in each container, and as
# each argument of each function, the NIF's among them. What the registry returns is compared with an
# ETS `:set`, and it has to serve on. All of it runs in a VM of its own: where that is gone, the term
# that was tried last has ended it, and the next VM goes on behind that term.
#
#   MIX_ENV=test mix run check/terms.exs

{:module, code, binary, _} =
  defmodule TermsInVM do
    alias GenRegistry.{Native, Table}

    # A call that has not returned by then never does.
    @patience 30_000

    @doc "Tries the terms from the nth on, and tells in files what it is about to do and what was wrong."
    def run(from, last_words, faults) do
      Process.flag(:trap_exit, true)
      Logger.configure(level: :none)
      {:ok, last_words} = :file.open(last_words, [:raw, :write])
      Process.put(:last_words, last_words)
      Process.put(:cases, 0)
      terms = Zoo.terms()
      kinds = for {_, term} <- terms, uniq: true, do: Zoo.kind(term)

      tell = fn found ->
        for fault <- List.flatten([found]),
            is_binary(fault),
            do: File.write!(faults, fault <> "\n", [:append])
      end

      for {{name, term}, n} <- Enum.with_index(terms), n >= from do
        about_to(n, "as an argument", name)
        tell.(as_arguments(name, term))
        for {how, wrap} <- containers(term), do: tell.(as_id(n, name, how, wrap.(term)))
      end

      if from <= length(terms), do: tell.(together(terms))
      %{terms: length(terms), kinds: kinds, cases: Process.get(:cases)}
    end

    # What is large takes long in each.
    defp containers(term) do
      large? = byte_size(:erlang.term_to_binary(term)) > 20_000
      if large?, do: Enum.take(Zoo.containers(), 2), else: Zoo.containers()
    end

    # What the file says when the VM is gone.
    defp about_to(n, what, name) do
      :ok =
        :file.pwrite(
          Process.get(:last_words),
          0,
          String.pad_trailing("#{n} #{Process.get(:cases)} #{name}, #{what}", 200)
        )
    end

    # In a process of its own, for what hangs or is killed. A registry that it starts ends with it.
    defp trial(fun) do
      Process.put(:cases, Process.get(:cases) + 1)
      {pid, monitor} = spawn_monitor(fn -> exit({:outcome, outcome(fun)}) end)

      receive do
        {:DOWN, ^monitor, _, _, {:outcome, outcome}} -> outcome
        {:DOWN, ^monitor, _, _, reason} -> {:died, reason}
      after
        @patience ->
          Process.exit(pid, :kill)
          :hangs
      end
    end

    defp outcome(fun) do
      {:returned, fun.()}
    catch
      :error, error -> {:raised, Exception.normalize(:error, error, __STACKTRACE__)}
      kind, reason -> {kind, reason}
    end

    ## As an id

    defp as_id(n, name, how, id) do
      about_to(n, how, name)

      case trial(fn -> in_registry(&life(&1, id)) end) do
        {:returned, :ok} ->
          []

        {:raised, %MatchError{}} = other ->
          "#{name}, #{how}: the registry and ETS differ: #{short(other)}"

        other ->
          "#{name}, #{how}: #{short(other)}"
      end
    end

    defp in_registry(fun) do
      registry = unused_name()
      {:ok, server} = GenRegistry.start_link(IdleWorker, name: registry)
      result = fun.(registry)
      # Unless it is the fault that it has ended.
      if Process.alive?(server), do: Supervisor.stop(server)
      result
    end

    # One that failed may hold its name for a while.
    defp unused_name do
      Module.concat(TermsInVM, "R#{System.unique_integer([:positive])}")
    end

    # All that a registry does with an id, and ETS beside it.
    defp life(registry, id) do
      ets = :ets.new(:life, [:set])
      same = [id | copies(id)]
      agree = fn -> for id <- same, do: true = agree?(registry, ets, id) end

      agree.()
      {:error, :not_found} = GenRegistry.stop(registry, id)
      {:ok, worker} = GenRegistry.start(registry, id)
      true = :ets.insert_new(ets, {id, worker})
      agree.()
      {:error, {:already_started, ^worker}} = GenRegistry.start(registry, id)
      {:ok, ^worker} = GenRegistry.lookup_or_start(registry, id)
      {:ok, ^worker} = GenRegistry.lookup_or_start(Process.whereis(registry), id)
      {:ok, found} = GenRegistry.lookup_id(registry, worker)
      true = found === id
      entries = [GenRegistry.sample(registry) | GenRegistry.to_list(registry)]

      [{^found, ^worker}, {^found, ^worker} | _] =
        entries ++ Enum.to_list(GenRegistry.stream(registry))

      1 = GenRegistry.reduce(registry, 0, fn {^found, ^worker}, count -> count + 1 end)
      :no = GenRegistry.register_name({registry, id}, Zoo.idle())
      :ok = GenRegistry.unregister_name({registry, id})
      :ok = GenRegistry.stop(registry, id)
      :ets.delete(ets, id)
      agree.()
      guest = Zoo.idle()
      :yes = GenRegistry.register_name({registry, id}, guest)
      :ets.insert(ets, {id, guest})
      ^guest = GenRegistry.send({registry, id}, :message)
      agree.()
      :ok = GenRegistry.unregister_name({registry, id})
      :ets.delete(ets, id)
      agree.()
      0 = GenRegistry.count(registry)
      :ok
    end

    # Those that the VM makes of one: through a message, through ETS, and from the network.
    defp copies(id) do
      [{_, kept}] = tap(:ets.new(:copies, []), &:ets.insert(&1, {1, id})) |> :ets.lookup(1)
      send(self(), {:copy, id})
      receive do: ({:copy, sent} -> [kept, sent, Terms.copy(id)])
    end

    defp agree?(registry, ets, id) do
      pid = for({_, pid} <- :ets.lookup(ets, id), do: pid) |> List.first()
      found = if pid, do: {:ok, pid}, else: {:error, :not_found}

      found == GenRegistry.lookup(registry, id) and
        (pid || :undefined) == GenRegistry.whereis_name({registry, id}) and
        if(pid, do: [pid, pid], else: []) ==
          for({_, pid} <- GenRegistry.lookup_many(registry, [id, :none, id]), do: pid) and
        found == Table.lookup_alive(registry, id)
    end

    ## All at once: which of them are the same

    defp together(terms) do
      about_to(length(terms), "all at once", "all")

      alike = ["alone", "in a tuple", "as a tail", "as a key", "in a fun"]

      ids =
        for {how, wrap} <- Zoo.containers(), how in alike, {name, term} <- terms do
          {"#{name}, #{how}", wrap.(term)}
        end

      case trial(fn -> in_registry(&compare(&1, ids)) end) do
        {:returned, faults} -> faults
        other -> "all at once: #{short(other)}"
      end
    end

    defp compare(registry, ids) do
      ets = :ets.new(:together, [:set])

      inserts =
        for {name, id} <- ids do
          {:ok, pid} = GenRegistry.lookup_or_start(registry, id)
          # If ETS has it already, it has it with this process.
          :ets.insert_new(ets, {id, pid})

          agree?(registry, ets, id) ||
            "#{name}: another is the same for the registry, and not for ETS"
        end

      lookups =
        for {name, id} <- ids, copy <- copies(id) do
          agree?(registry, ets, copy) || "#{name}: ETS finds a copy elsewhere"
        end

      count = :ets.info(ets, :size) == GenRegistry.count(registry) || "the numbers of ids differ"
      [inserts, lookups, count]
    end

    ## As an argument

    # Only the first fault: it may have taken the registry with it.
    defp as_arguments(name, term) do
      in_registry(fn registry ->
        {:ok, resident} = GenRegistry.start(registry, :resident)
        calls = for mfa <- calls(), at <- positions(mfa), do: {mfa, at}

        Enum.find_value(calls, fn {{module, function, _} = mfa, at} ->
          outcome = trial(fn -> call(mfa, at, term, registry, resident) end)

          if not fine?(outcome) do
            "#{name} as argument #{at + 1} of #{inspect(module)}.#{function}: #{short(outcome)}"
          end
        end)
      end)
    end

    defp calls do
      # `load` is the VM's to call, and `call/3` is `call/4` with a timeout of seconds.
      for module <- [GenRegistry, Native],
          {function, arity} <- module.__info__(:functions),
          function != :load and {function, arity} != {:call, 3},
          do: {module, function, arity}
    end

    defp positions({_, _, arity}), do: Enum.to_list(0..(arity - 1)//1)

    # Whatever a public function returns or raises, the registry serves as before.
    defp call({GenRegistry, _, _} = mfa, at, term, registry, resident) do
      outcome = with_argument(mfa, args(mfa, registry, resident), at, term)
      {:ok, ^resident} = GenRegistry.lookup(registry, :resident)
      {:ok, _} = GenRegistry.start(registry, :visitor)
      :ok = GenRegistry.stop(registry, :visitor)
      outcome
    end

    # The NIF's functions do as they are told, so this is a table without a registry.
    defp call({Native, _, _} = mfa, at, term, _registry, _resident) do
      Process.register(self(), unused_name())
      {:registered_name, name} = Process.info(self(), :registered_name)
      table = Table.open(name, :infinity)
      resident = Zoo.idle()
      :ok = Table.register(table, :resident, resident, nil)
      with_argument(mfa, args(mfa, {name, table}, resident), at, term)
    end

    defp with_argument({module, function, arity}, args, at, term) do
      args = args |> Enum.take(arity) |> List.replace_at(at, term)
      outcome(fn -> apply(module, function, args) end)
    end

    # Those that a function takes, as far as its arity goes.
    defp args({GenRegistry, function, _}, registry, resident) do
      case function do
        :child_spec -> [[worker_module: IdleWorker]]
        :start_link -> [IdleWorker, [name: TermsInVM.Other]]
        :lookup_many -> [registry, [:none]]
        :lookup_id -> [registry, resident]
        :reduce -> [registry, 0, fn _, sum -> sum end]
        :stop -> [registry, :none, 1_000]
        function when function in [:call, :cast] -> [registry, :none, :request, [timeout: 10]]
        name when name in [:whereis_name, :unregister_name] -> [{registry, :none}]
        :send -> [{registry, :resident}, :message]
        :register_name -> [{registry, :none}, Zoo.idle()]
        _ -> [registry, :none, [], 1_000]
      end
    end

    defp args({Native, function, _}, {registry, table}, resident) do
      case function do
        :lookup_many ->
          [registry, [:none]]

        :lookup_id ->
          [registry, resident]

        function when function in [:scan, :scan_children] ->
          [registry, 0]

        function when function in [:alive, :local] ->
          [resident]

        function when function in [:hear_wait, :end_wait] ->
          [resident, 1]

        function when function in [:busy_among, :break_circle, :circle, :circle_ids] ->
          [[resident]]

        :begin_wait ->
          [resident, registry, :none]

        :open ->
          [registry, 10]

        :register ->
          [table, :none, Zoo.idle(), Zoo.idle()]

        function when function in [:retire, :promise] ->
          [table, :none, nil]

        function when function in [:track, :refuse] ->
          [table, Zoo.idle(), nil]

        function when function in [:begin_start, :left, :release_own] ->
          [table, :none]

        :ends? ->
          [table, :none, Zoo.idle()]

        :killed_at ->
          [table, 1]

        :inherit_place ->
          [table, Zoo.idle(), Zoo.idle()]

        :scan_guests ->
          [table, 0]

        function
        when function in [
               :known,
               :forget_dead,
               :leave_place,
               :ended_idle,
               :ever,
               :give_back,
               :seal,
               :end_in_order,
               :close,
               :memory,
               :end_start,
               :has_id,
               :told,
               :set_sweeper,
               :key,
               :sweeper,
               :starting,
               :earlier,
               :count_left,
               :note_busy,
               :publish,
               :processes
             ] ->
          [table, Zoo.idle()]

        _ ->
          [registry, :none]
      end
    end

    # Nothing that says that the library itself has failed.
    defp fine?({:returned, {:raised, %ErlangError{original: :nif_panicked}}}), do: false
    defp fine?({:returned, outcome}), do: outcome != :hangs
    defp fine?(_), do: false

    defp short(outcome),
      do: outcome |> inspect(limit: 10, printable_limit: 100) |> String.slice(0, 300)
  end

defmodule TermsCheck do
  def run(code, binary) do
    Process.flag(:trap_exit, true)
    here = System.fetch_env!("CARGO_TARGET_DIR") |> Path.join("check")
    File.mkdir_p!(here)
    files = for name <- ["last", "faults"], do: Path.join(here, "terms." <> name)
    for file <- files, do: File.write!(file, "")
    {results, gone} = from(0, code, binary, files)
    faults = files |> List.last() |> File.read!() |> String.split("\n", trim: true)
    for fault <- gone ++ faults, do: IO.puts("FAILED: #{fault}")
    %{terms: terms, kinds: kinds} = List.last(results)
    IO.puts("kinds, as the VM calls them: #{inspect(Enum.sort(kinds), limit: :infinity)}")
    cases = results |> Enum.map(& &1.cases) |> Enum.sum()

    IO.puts(
      "terms: #{terms} of #{length(kinds)} kinds, #{cases} cases, VMs gone: #{length(gone)}, " <>
        "other faults: #{length(faults)}"
    )

    unless gone ++ faults == [], do: System.halt(1)
  end

  # In a VM, and in the next one behind the term that it did not survive.
  defp from(n, code, binary, [last_words, faults] = files) do
    {:ok, vm} = OtherVM.start_link(%{wait_boot: 60_000}, [])
    {:module, _} = :peer.call(vm, :code, :load_binary, [code, ~c"terms", binary])
    {:ok, _} = :peer.call(vm, :application, :ensure_all_started, [:logger])
    result = :peer.call(vm, code, :run, [n, last_words, faults], :infinity)
    :peer.stop(vm)
    {[result], []}
  catch
    :exit, _gone ->
      [n, cases, name] =
        last_words |> File.read!() |> String.trim() |> String.split(" ", parts: 3)

      {results, gone} = from(String.to_integer(n) + 1, code, binary, files)
      result = %{cases: String.to_integer(cases) + 1}
      {[result | results], ["the VM is gone: #{name}" | gone]}
  end
end

TermsCheck.run(code, binary)
