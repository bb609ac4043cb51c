"""Draws the plots of every part into bench/results, as SVG."""

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

from parts import PARTS
from results import ETS, OWN, RESULTS, Results, counted, fits, rounded
from targets import TARGETS

COLOURS = {
    "GenRegistry": "#0b6e4f",
    "GenRegistry, one by one": "#7fb8a4",
    "with 10 in flight": "#7fb8a4",
    "by hand": "#7fb8a4",
    "ETS baseline": "#d98032",
    "Registry": "#5b7db1",
    "Registry + DynamicSupervisor": "#5b7db1",
    "Registry + PartitionSupervisor": "#9db4d6",
    ":global": "#8c6bb1",
    ":pg": "#c3a6d8",
    "DashMap": "#5b7db1",
    "empty loop": "#c9c9c9",
}
TARGET = "#c1121f"
NAME_OF_TARGET = "target: at most"

pyplot.rcParams.update({
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "ytick.left": False,
    "xtick.bottom": False,
    "figure.facecolor": "white",
})


def main():
    results = Results()
    for part in PARTS:
        if not results.state(part.name):
            for plot in part.plots:
                draw(part, plot, results)


def distinct(figures, label):
    return list(dict.fromkeys(figure.get(label) for figure in figures))


def words(label, value):
    if isinstance(value, int):
        return counted(label, value)
    return str(value)


def draw(part, plot, results):
    figures = results.figures(part.name, **plot.labels)
    if not figures:
        return
    panels = distinct(figures, plot.panels) if plot.panels else [None]
    groups = distinct(figures, plot.groups)
    rivals = distinct(figures, "rival")
    room = len(groups) * (len(rivals) + 1)
    figure, all_axes = pyplot.subplots(
        len(panels), 1, squeeze=False, layout="constrained",
        figsize=(max(7, min(11, max(2 + room * 0.22, 1 + len(groups) * 1.1))), 1 + 2.6 * len(panels)),
    )
    for panel, axes in zip(panels, all_axes[:, 0]):
        here = [f for f in figures if not plot.panels or f.get(plot.panels) == panel]
        panel_of_bars(axes, plot, here, groups, rivals)
        targets(axes, part, plot, here, groups, rivals)
        if plot.panels:
            axes.set_title(words(plot.panels, panel), loc="left", fontsize=10, color="#555555")
    figure.suptitle(plot.title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    handles = {}
    for axes in all_axes[:, 0]:
        for handle, name in zip(*axes.get_legend_handles_labels()):
            handles.setdefault(name, handle)
    # The bars first, from left to right.
    if NAME_OF_TARGET in handles:
        handles[NAME_OF_TARGET] = handles.pop(NAME_OF_TARGET)
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=3, frameon=False)
    figure.savefig(RESULTS / part.file(plot), metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def place(group, rival, rivals):
    """Where the bar of a rival stands in its group."""
    return group + (rival - (len(rivals) - 1) / 2) * width(rivals)


def width(rivals):
    return 0.82 / len(rivals)


def panel_of_bars(axes, plot, figures, groups, rivals):
    for nth, rival in enumerate(rivals):
        bars = {f[plot.groups]: f["median"] for f in figures if f["rival"] == rival}
        if bars:
            axes.bar(
                [place(groups.index(group), nth, rivals) for group in bars], bars.values(),
                width(rivals) * 0.94, label=rival, color=COLOURS[rival],
            )
    axes.set_xticks(range(len(groups)), [
        f"{group:,}" if isinstance(group, int) else group for group in groups
    ])
    if plot.logarithmic:
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: rounded(value)))
    axes.set_ylabel(figures[0]["unit"])
    axes.set_xlim(-0.6, len(groups) - 0.4)


def targets(axes, part, plot, figures, groups, rivals):
    """A line where our bar is to end at the most."""
    for own in (f for f in figures if f["rival"] == OWN):
        for check in (check for target in TARGETS for check in target.checks):
            if check.part == part.name and fits(own, check.labels):
                group = own[plot.groups]
                ets = [f["median"] for f in figures if (f["rival"], f[plot.groups]) == (ETS, group)]
                limit = check.limit(ets[0] if ets else None)
                if limit:
                    x = place(groups.index(group), rivals.index(OWN), rivals)
                    half = width(rivals) * 0.7
                    axes.hlines(limit, x - half, x + half, color=TARGET, linewidth=2, label=NAME_OF_TARGET)


main()
