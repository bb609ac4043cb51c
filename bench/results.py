"""The results of a run: the figures of each part, with the labels that tell them apart."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
OWN, ETS = "GenRegistry", "ETS baseline"
NOT_LABELS = ("rival", "unit", "median", "samples")


def fits(figure, labels):
    """Whether a figure has these labels: each a value, a list of values, or a question."""
    for label, wanted in labels.items():
        value = figure.get(label)
        if callable(wanted):
            if value is None or not wanted(value):
                return False
        elif value not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


class Results:
    def __init__(self):
        self.parts = {
            path.stem: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(RESULTS.glob("*.json"))
        }

    def state(self, part):
        """What hinders the use of a part's figures, if anything does."""
        if part not in self.parts:
            return "not run"
        return "failed" if self.parts[part].get("failed") else None

    def figures(self, part, **labels):
        found = self.parts.get(part, {}).get("figures", [])
        return [figure for figure in found if fits(figure, labels)]

    def pairs(self, part, one, other, change=None, **labels):
        """The figures of one rival, each with the other's, or with the one that differs in the
        labels `change`."""
        for figure in self.figures(part, rival=one, **labels):
            same = {key: value for key, value in figure.items() if key not in NOT_LABELS}
            for counterpart in self.figures(part, rival=other, **(same | (change or {}))):
                yield figure, counterpart


def rounded(number):
    """With three figures that count."""
    if abs(number) >= 100 or number == int(number):
        return f"{number:,.0f}"
    if abs(number) >= 10:
        return f"{number:.1f}"
    return f"{number:.2f}" if abs(number) >= 0.1 else f"{number:.1g}"


def counted(label, number):
    """Such as 1,000 entries, or 1 reader."""
    what = label.replace("_", " ")
    return f"{number:,} {what[:-1] if number == 1 and what.endswith('ers') else what}"


def case(figure, labels):
    """What tells this figure from others, in words."""
    words = []
    for label in labels:
        value = figure.get(label)
        if isinstance(value, int):
            words.append(counted(label, value))
        elif value is not None:
            words.append(str(value))
    return ", ".join(words)
