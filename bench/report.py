"""Writes BENCHMARKS.md: every row of the targets, then each part, from bench/results/*.json."""

import re

from parts import PARTS
from results import ETS, OWN, RESULTS, Results, rounded
from targets import TARGETS

INTRODUCTION = """
# Benchmarks

Written by `script/bench`, which measures all of this in about half an hour: `script/bench --help`
says more. Figures are medians of rounds in which the rivals take turns. `bench/parts` says what
exactly is measured, `bench/support` has the rivals, `bench/results` every sample.

The *ETS baseline* is what users of the upstream library have: one GenServer that starts the workers
itself, and a named ETS set with `read_concurrency` that callers read.
"""


def main():
    results = Results()
    rows = [row for target in TARGETS for row in target.rows(results)]
    # What the row above has said is not said again.
    whats = [row[0] for row in rows]
    for row, before in zip(rows[1:], whats):
        row[0] = "" if row[0] == before else row[0]
    lines = [INTRODUCTION.strip(), "", *provenance(results), "", "## Targets", "",
             "Where there are several cases, the lowest and the highest ratio is shown, and those "
             "that are not met are named.", ""]
    lines += table(["what", "which", "target", "measured", ""], rows)
    for part in PARTS:
        lines += ["", f"## {part.title}", "", *section(part, results)]
    for name in sorted(results.parts):
        if name.startswith("lookups-otp") and not results.state(name):
            lines += ["", *other_vm(results.parts[name])]
    path = RESULTS.parent.parent / "BENCHMARKS.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def provenance(results):
    """The machine and the versions of each run that the results are of: usually one."""
    runs = {}
    for part in PARTS:
        result = results.parts.get(part.name, {})
        if "machine" in result:
            machine = result["machine"]
            quick = "; **a quick run on small tables, not to be quoted**" if result["quick"] else ""
            run = (
                f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; "
                f"{machine['os']}; OTP {machine['otp']}, Elixir {machine['elixir']}, "
                f"{machine['rust']}; {result['date']}, commit {result['commit']}; "
                f"{result['rounds']} rounds{quick}"
            )
            runs.setdefault(run, []).append(part.title)
    if len(runs) == 1:
        return [f"Measured on: {run}." for run in runs]
    return [f"- {', '.join(titles)}: {run}." for run, titles in runs.items()]


def section(part, results):
    state = results.state(part.name)
    if state:
        return [f"**This part has {state}.**" if state == "failed" else "**This part was not run.**"]
    result = results.parts[part.name]
    lines = [part.text, ""] + [line for note in result["notes"] for line in (note, "")]
    if not result["figures"]:
        return lines
    for plot in part.plots:
        if (RESULTS / part.file(plot)).exists():
            lines += [f"![{plot.title}](bench/results/{part.file(plot)})", ""]
        else:
            lines += [f"**The plot “{plot.title}” could not be drawn.**", ""]
    return lines + figures_table(part, result["figures"])


def other_vm(result):
    """The lookups that find, as `script/bench --other-vm` has measured them."""
    machine = result["machine"]
    part = next(part for part in PARTS if part.name == "lookups")
    hits = [figure for figure in result["figures"] if figure["kind"] == "hit"]
    quick = ", and a quick run on smaller tables" if result["quick"] else ""
    return [
        f"## Lookups on OTP {machine['otp']}",
        "",
        f"On the same machine with Elixir {machine['elixir']}; {result['date']}, commit "
        f"{result['commit']}; {result['rounds']} rounds{quick}.",
        "",
        *figures_table(part, hits),
    ]


def figures_table(part, figures):
    """A row for each measure, a column for each rival."""
    rivals = list(dict.fromkeys(figure["rival"] for figure in figures))
    rows = {}
    for figure in figures:
        what = tuple(figure.get(label, "") for label in part.labels) + (figure["unit"],)
        rows.setdefault(what, {})[figure["rival"]] = figure["median"]
    body = []
    for what, medians in rows.items():
        cells = [f"{cell:,}" if isinstance(cell, int) else cell for cell in what]
        cells += [rounded(medians[rival]) if rival in medians else "" for rival in rivals]
        if ETS in rivals:
            both = OWN in medians and ETS in medians and medians[OWN]
            cells.append(rounded(medians[ETS] / medians[OWN]) if both else "")
        body.append(cells)
    heads = [label.replace("_", " ") for label in part.labels] + ["unit"] + rivals
    return table(heads + (["ETS : GenRegistry"] if ETS in rivals else []), body)


def literally(cell):
    """Terms as code: some readers of Markdown take braces for attributes."""
    return re.sub(r"\{.*?\}", r"`\g<0>`", cell)


def table(heads, rows):
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *("| " + " | ".join(map(literally, row)) + " |" for row in rows),
    ]


main()
