"""The parts of the report: what each has measured, and how it is drawn."""

from dataclasses import dataclass, field


@dataclass
class Plot:
    """Bars: a group for each value of one label, a panel for each of another."""

    title: str
    groups: str
    panels: str = ""
    labels: dict = field(default_factory=dict)
    # Times that are too far apart for one scale.
    logarithmic: bool = False
    unit: str = ""


@dataclass
class Part:
    name: str
    title: str
    # Which labels its table shows, in this order.
    labels: list
    text: str = ""
    plots: list = field(default_factory=list)

    def file(self, plot):
        return f"{self.name}-{self.plots.index(plot) + 1}.svg"


PARTS = [
    Part(
        "lookups",
        "Lookups",
        ["kind", "entries", "readers", "shape"],
        "Nanoseconds a call, with what the loop costs that makes the calls (the empty loop), which "
        "is not subtracted. Ids are looked up in random order, and are on the reader's own heap.",
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
        "starts",
        "Starts",
        ["callers", "init_ms"],
        "Microseconds until the next start is done, all callers together.",
        [
            Plot("Starts with a trivial init", "callers", "", {"init_ms": 0}),
            Plot("Starts by 200 callers, by milliseconds of init", "init_ms", "",
                 {"callers": 200}, logarithmic=True),
        ],
    ),
]
