"""The parts of the report: what each has measured, and how it is drawn."""

from dataclasses import dataclass, field


@dataclass
class Plot:
    """Bars: a group for each value of one label, and a panel for each of another."""

    title: str
    groups: str
    panels: str = ""
    # Which figures it shows.
    labels: dict = field(default_factory=dict)
    # For what is too far apart for one scale.
    logarithmic: bool = False


@dataclass
class Part:
    name: str
    title: str
    # Which labels its table shows, in this order.
    labels: list
    text: str
    plots: list = field(default_factory=list)

    def file(self, plot):
        return f"{self.name}-{self.plots.index(plot) + 1}.svg"


PARTS = [
    Part(
        "lookups",
        "Lookups",
        ["kind", "entries", "readers", "shape"],
        "What a call of `lookup` takes. What the loop costs that makes the calls (the empty loop) is "
        "not subtracted. Ids are looked up in random order, and are on the reader's own heap; of a "
        "million entries, 200,000 are looked up. With two readers it is what a call takes each. "
        "`:global` and `:pg` are there with 1,000 entries only: neither starts or supervises "
        "workers, `:global` would take minutes to register a million, and `:pg` does not keep an "
        "id for one process.",
        [
            Plot("A lookup that finds, one reader", "shape", "entries",
                 {"kind": "hit", "readers": 1}),
            Plot("A lookup that finds, two readers at once", "shape", "entries",
                 {"kind": "hit", "readers": 2}),
            Plot("A lookup that finds nothing, one reader", "shape", "entries",
                 {"kind": "miss", "readers": 1}),
        ],
    ),
    Part(
        "against",
        "Lookups, against an earlier commit",
        ["kind", "entries", "shape"],
        "`lookup` of this commit and of another one, as `script/bench --against` measures them: each "
        "in a VM of its own, in turn, in several pairs of VMs. The figures are the least of all rounds. "
        "What memory a VM got makes single cases with more entries vary: their median counts.",
    ),
    Part(
        "hot_id",
        "One hot id",
        ["shape", "of"],
        "The same id, looked up again and again by one process, and by two at once.",
        [Plot("One id looked up by all", "of", "shape")],
    ),
    Part(
        "beside_a_writer",
        "Beside a writer",
        ["entries", "of"],
        "Lookups by one process while another starts a worker and stops it without pause, by the "
        "rivals' own `lookup_or_start` and `stop`.",
        [
            Plot("A lookup beside a process that starts and stops", "of", "entries",
                 {"of": ["lookup when quiet", "lookup beside a writer"]}),
        ],
    ),
    Part(
        "lookup_or_start",
        "lookup_or_start",
        ["then", "entries"],
        "Of ids that have a worker. Ours never answers a dead one, so it asks the VM: with many "
        "workers that is a miss of the caches, which sending the worker a message would else be.",
        [Plot("lookup_or_start of a worker that is there", "entries", "then")],
    ),
    Part(
        "requests",
        "Calls",
        ["entries", "callers"],
        "`call` of ids that have a worker, which replies at once, beside `lookup_or_start` and "
        "`GenServer.call` by hand: what a call takes each, of all callers together. By hand, a call is "
        "lost when the worker ends in between.",
    ),
    Part(
        "lookup_many",
        "lookup_many",
        ["entries"],
        "A hundred ids at a time, per id.",
        [Plot("A hundred ids at a time", "entries")],
    ),
    Part(
        "starts",
        "Starts",
        ["callers", "init_ms"],
        "Of all callers together, the time from one start to the next. One init takes no time, 1 ms "
        "or 5 ms (which the VM's clock makes about one more).",
        [
            Plot("Starts with a trivial init, by the number of callers", "callers", "",
                 {"init_ms": 0}),
            Plot("Starts by 200 callers, by the milliseconds of the init", "init_ms", "",
                 {"callers": 200}, logarithmic=True),
        ],
    ),
    Part(
        "start_latency",
        "Latency of starts",
        ["inits", "resident", "of"],
        "One start after the other, beside workers that are there already. And while one init in "
        "fifty takes 100 ms, with a start every 5 ms whatever became of those before: how long the "
        "others take, whose own init takes no time.",
        [
            Plot("Single starts, by the number of workers there are", "of", "resident",
                 {"inits": "quick"}),
            Plot("Starts while one init in fifty takes 100 ms", "of", "",
                 {"inits": "one in fifty takes 100 ms"}, logarithmic=True),
        ],
    ),
    Part(
        "stops",
        "Stops",
        ["at_once"],
        "Of workers that end at once. Ours and the supervisors' answer when the worker is gone, the "
        "ETS baseline when it has been told to go.",
        [Plot("Stops, by the number of callers", "at_once")],
    ),
    Part(
        "in_flight",
        "Much in flight",
        ["of", "in_flight"],
        "What an event costs the registry's process while so many starts wait for their turn: the "
        "time that it runs, whatever others do. Beside it, what it costs with 10 in flight, measured "
        "in turn in the same run.",
        [Plot("An event, by what is in flight", "of", "in_flight")],
    ),
    Part(
        "waiters",
        "Waiters",
        ["of", "waiters"],
        "A start, one after the other, while so many processes wait by `await` for one other id, or each "
        "for one of its own; beside a registry in the same VM for which nobody waits, in turn.",
    ),
    Part(
        "mass_death",
        "Mass death",
        ["workers", "of"],
        "All workers are killed at once, and started again by 64 callers. The reader has a high "
        "priority, so as not to wait in line with the dying.",
        [
            Plot("All workers killed at once", "of", "workers",
                 {"of": ["until the count is 0", "restart of all"]}),
            Plot("A lookup meanwhile", "of", "workers",
                 {"of": ["lookup before", "lookup meanwhile"]}),
        ],
    ),
    Part(
        "kills",
        "A killed registry",
        ["workers", "end_ms", "of"],
        "The registry is killed beside so many workers, whose ends take so long, and started again by its "
        "supervisor. With the ETS baseline its workers are killed with it; ours have their time to end, "
        "in their turn, and their ids wait for that.",
        [
            Plot("From the kill to the first start of a new id", "workers", "of", {"of": "the first start"}),
        ],
    ),
    Part(
        "scans",
        "Scans",
        ["entries", "of"],
        "All entries, and one at random, which ETS has no function for. The "
        "longest NIF call is of the steps in which a scan passes over the table, each at the "
        "quickest of its runs: the table is at rest, so what makes one longer is the machine.",
        [Plot("All entries", "of", "entries", {"of": ["reduce", "to_list"]})],
    ),
    Part(
        "growth",
        "Growth",
        ["entries", "shape", "of"],
        "The Rust table alone: the slowest single call, in the CPU time of its thread. Ours knows "
        "each process by its pid too. DashMap is its default, and has no scan in steps.",
        [Plot("The slowest of all calls", "of", "shape", logarithmic=True)],
    ),
    Part(
        "memory",
        "Memory",
        ["entries", "shape"],
        "What a worker costs beyond its process: the table, links, monitors and process "
        "dictionaries, wherever they are.",
        [Plot("Memory of a worker beyond the process", "shape", "entries")],
    ),
    Part(
        "many_cores",
        "Many cores",
        ["of"],
        "Readers look up, count and scan while the operating system forbids all writes to the "
        "table's memory, from the name's slot on. What a reader writes is a record of its own "
        "thread.",
    ),
]
