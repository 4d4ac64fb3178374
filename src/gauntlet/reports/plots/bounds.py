"""Accuracy against the bound, where one attack was measured at several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gauntlet.reports.bound_curves import Point, accuracy_curves
from gauntlet.reports.paper_table import PaperTable
from gauntlet.reports.plots.canvas import COLOURS, DASHES, MARKS, Plot, as_svg, drawing, percent_axis
from gauntlet.reports.table import bound_text


def bound_plots(sheet: PaperTable, name: str) -> list[tuple[Plot, list[str]]]:
    """A plot per family of attacks, a line per run; with the attacks in it."""
    curves = {label: accuracy_curves(run) for label, run in zip(sheet.labels, sheet.runs, strict=True)}
    known = list(dict.fromkeys(family for found in curves.values() for family in found))
    threats = [family.threat_model for family in known]
    plots = []
    for i, family in enumerate(known):
        lines = {label: found.get(family, []) for label, found in curves.items()}
        searched = f" ({family.algorithm})" if threats.count(family.threat_model) > 1 else ""
        attacks = list(dict.fromkeys(point.attack for points in lines.values() for point in points))
        plots.append((_plot(f"{family.threat_model}{searched}", lines, f"{name}-{i}"), attacks))
    return plots


def _plot(title: str, lines: Mapping[str, Sequence[Point]], name: str) -> Plot:
    """The colour and the mark of a run are its place in the table, the same in every plot."""
    said = []
    with drawing(2.5 + 0.17 * -(-len(lines) // 2)) as (figure, grid):
        axes = grid[0, 0]
        for i, (label, points) in enumerate(lines.items()):
            if not points:
                continue
            colour, turn = COLOURS[i % len(COLOURS)], i // len(COLOURS) % len(DASHES)
            across = [point.bound for point in points]
            low, value, high = ([100 * point.accuracy[k] for point in points] for k in (1, 0, 2))
            style = {"linestyle": DASHES[turn], "marker": MARKS[turn], "markersize": 3.5, "linewidth": 1.5}
            axes.plot(across, value, color=colour, label=label, **style)
            axes.fill_between(across, low, high, color=colour, alpha=0.12, linewidth=0)
            at = ", ".join(f"{share:.1f} % at {bound_text(bound)}" for bound, share in zip(across, value, strict=True))
            said.append(f"{label} {at}")
        percent_axis(axes, "y")
        axes.set_xlabel("bound")
        axes.set_ylabel("accuracy %")
        figure.legend(loc="outside lower center", ncols=2)
        svg = as_svg(figure, name, f"Accuracy against the bound of {title}: {'; '.join(said)}.")
    return Plot(
        title, svg, "Accuracy in % against the bound, in the threat model's own unit; bands are 95 % intervals."
    )
