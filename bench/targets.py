"""What the library is to reach, and whether a run's results do."""

from dataclasses import dataclass, field
from statistics import median

from results import ETS, OWN, case, counted, rounded


@dataclass
class Faster:
    """The ETS baseline takes at least so many times as long as we do."""

    part: str
    times: float
    labels: dict

    def measured(self, results):
        for own, ets in results.pairs(self.part, OWN, ETS, **self.labels):
            yield own, ets["median"] / own["median"]

    def met(self, measured):
        return measured >= self.times

    def wanted(self):
        return f"at least {rounded(self.times)} times"

    def limit(self, ets):
        """What may be measured of us where this is measured of ETS, if anything is."""
        return ets / self.times if ets else None


@dataclass
class AtMost:
    """Of us is measured at most so much: of itself, of the ETS baseline's, or of our own under
    other labels."""

    part: str
    most: float
    labels: dict
    of: str = ""
    unit: str = ""
    rival: str = ""
    change: dict = field(default_factory=dict)

    def measured(self, results):
        if self.rival:
            for own, other in results.pairs(
                self.part, OWN, self.rival, self.change, **self.labels
            ):
                yield own, own["median"] / other["median"]
        else:
            for own in results.figures(self.part, rival=OWN, **self.labels):
                yield own, own["median"]

    def met(self, measured):
        return measured <= self.most

    def wanted(self):
        return f"at most {rounded(self.most)}{self.unit}{self.of}"

    def limit(self, ets):
        if not self.rival:
            return self.most
        return ets * self.most if ets and self.rival == ETS and not self.change else None


@dataclass
class Middle(AtMost):
    """At most so much in the median of all cases, where a single one varies too much by itself."""

    def measured(self, results):
        found = [value for _, value in super().measured(results)]
        if found:
            yield {}, median(found)

    def wanted(self):
        return f"the median {super().wanted()}"


@dataclass
class Target:
    what: str
    checks: list
    # Which labels tell its cases apart.
    cases: list = field(default_factory=list)

    def rows(self, results):
        """For each check: what, cases, wanted, measured, whether met."""
        for check in self.checks:
            found = list(check.measured(results))
            yield [self.what, self.which(check), check.wanted(), *self.outcome(check, found, results)]

    def which(self, check):
        words = []
        for label in self.cases:
            wanted = check.labels.get(label)
            if callable(wanted):
                words.append(wanted.__doc__)
            elif isinstance(wanted, int):
                words.append(counted(label, wanted))
            elif wanted:
                words.append(", ".join(map(str, wanted)) if isinstance(wanted, list) else wanted)
        return "; ".join(words)

    def outcome(self, check, found, results):
        missing = results.state(check.part)
        if missing:
            return ["", f"**{missing}**"]
        if not found:
            return ["", "**not there yet**"]
        values = [value for _, value in found]
        low, high = rounded(min(values)), rounded(max(values))
        failed = [
            f"{case(figure, self.cases) or 'this'}: {rounded(value)}"
            for figure, value in found
            if not check.met(value)
        ]
        span = low if low == high else f"{low} to {high}"
        unit = check.unit if isinstance(check, AtMost) else ""
        if not failed:
            return [span + unit, "met"]
        if len(failed) == len(found):
            return [span + unit, "**not met**"]
        return [span + unit, "**not met** by " + "; ".join(failed)]


def few(entries):
    """1,000 entries"""
    return entries <= 1_000


def many(entries):
    """more entries"""
    return entries > 1_000


def lookups(what, kind, entries, *shapes):
    return Target(
        what,
        [
            Faster("lookups", times, {"kind": kind, "entries": entries, "shape": named})
            for times, named in shapes
        ],
        ["shape", "readers"],
    )


AGAINST = (" the other commit's", " times", "the other commit")
ALL_BUT_UUID = ["integer", "snowflake", "atom", "11-byte string", "{:user, int}",
                "{:user, string}", "{int, int, int}", "small map"]

TARGETS = [
    lookups(
        "lookup, hit, 1,000 entries, 1 and 2 readers", "hit", few,
        (4.5, ["integer", "atom", "UUID"]),
        (4, ["snowflake", "11-byte string", "{:user, int}", "{:user, string}", "{int, int, int}"]),
        (2, ["small map"]),
    ),
    lookups(
        "lookup, hit, 1,000,000 entries, 1 and 2 readers", "hit", many,
        (4, ["integer", "atom", "{:user, int}"]),
        (3, ["UUID"]),
        (2.6, ["11-byte string", "{:user, string}", "snowflake", "{int, int, int}"]),
        (2.2, ["small map"]),
    ),
    lookups(
        "lookup, miss, 1,000 entries", "miss", few, (3, ["UUID", *ALL_BUT_UUID])
    ),
    lookups(
        "lookup, miss, 1,000,000 entries", "miss", many, (3, ALL_BUT_UUID), (1.7, ["UUID"])
    ),
    Target(
        "lookup, against an earlier commit",
        [
            AtMost("against", 1.1, {"entries": few}, *AGAINST),
            Middle("against", 1.1, {"entries": many}, *AGAINST),
        ],
        ["kind", "entries", "shape"],
    ),
    Target(
        "hot id, read by 2 processes at once",
        [
            AtMost("hot_id", 1.15, {"of": "2 readers"}, " one process alone", " times", OWN,
                   {"of": "1 reader"}),
            Faster("hot_id", 3, {"of": "2 readers"}),
        ],
        ["shape"],
    ),
    Target(
        "lookup beside a writer that starts and stops without pause",
        [
            Faster("beside_a_writer", 10, {"of": "lookup beside a writer"}),
            AtMost("beside_a_writer", 2, {"of": "lookup beside a writer"}, " our own when quiet",
                   " times", OWN, {"of": "lookup when quiet"}),
        ],
        ["entries"],
    ),
    Target(
        "lookup_or_start, hit",
        [
            Faster("lookup_or_start", 3.5, {"then": "nothing", "entries": few}),
            Faster("lookup_or_start", 1, {"then": "a cast", "entries": many}),
        ],
        ["then", "entries"],
    ),
    Target(
        "call",
        [AtMost("requests", 1.1, {}, " lookup_or_start and GenServer.call by hand", " times", "by hand")],
        ["entries", "callers"],
    ),
    Target(
        "lookup_many, 100 ids at a time",
        [
            Faster("lookup_many", 5, {"entries": few}),
            Faster("lookup_many", 6.5, {"entries": many}),
            AtMost("lookup_many", 0.5, {}, " our own single lookups", " times",
                   "GenRegistry, one by one"),
        ],
        ["entries"],
    ),
    Target(
        "starts, trivial init",
        [
            Faster("starts", 1, {"callers": 1, "init_ms": 0}),
            Faster("starts", 1, {"callers": 2, "init_ms": 0}),
            Faster("starts", 1.3, {"callers": 200, "init_ms": 0}),
        ],
        ["callers"],
    ),
    Target(
        "starts, 200 callers, init of 1 and 5 ms",
        [Faster("starts", 40, {"callers": 200, "init_ms": [1, 5]})],
        ["init_ms"],
    ),
    Target(
        "start latency, p99",
        [
            AtMost("start_latency", 1, {"of": "p99", "inits": "quick"}, " ETS's", " times", ETS),
            AtMost("start_latency", 0.1, {"of": "p99", "inits": "one in fifty takes 100 ms"},
                   " ETS's", " times", ETS),
        ],
        ["inits", "resident"],
    ),
    Target("stop", [Faster("stops", 0.9, {"at_once": 1}), Faster("stops", 0.9, {"at_once": 200})], ["at_once"]),
    Target(
        "an event with 200,000 in flight",
        [AtMost("in_flight", 2, {"in_flight": many}, " what it costs with 10", " times",
                "with 10 in flight")],
        ["of"],
    ),
    Target(
        "a start while 100,000 wait for other ids",
        [AtMost("waiters", 1.2, {}, " what it takes when nobody waits", " times", "nobody waits")],
        ["of"],
    ),
    Target(
        "mass death of 100,000 workers",
        [
            Faster("mass_death", 1, {"of": ["until the count is 0", "restart of all"]}),
            AtMost("mass_death", 1.5, {"of": "lookup meanwhile"}, " quiet", " times", OWN,
                   {"of": "lookup before"}),
        ],
        ["of"],
    ),
    Target(
        "scans of 1,000,000 entries",
        [
            Faster("scans", 3, {"of": "reduce"}),
            Faster("scans", 1, {"of": "to_list"}),
            AtMost("scans", 1, {"of": "longest NIF call"}, unit=" ms"),
        ],
        ["of"],
    ),
    Target(
        "growth to 10,000,000 entries: slowest insert",
        [AtMost("growth", 1_000, {"of": "slowest insert"}, unit=" µs")],
        ["shape"],
    ),
    Target(
        "memory of a worker beyond the process, 1,000,000 entries",
        [AtMost("memory", 1.2, {}, " ETS's", " times", ETS)],
        ["shape"],
    ),
    Target(
        "many cores: writes of readers to shared memory",
        [AtMost("many_cores", 0, {"of": "writes to the table's memory"}, unit=" writes")],
    ),
]
