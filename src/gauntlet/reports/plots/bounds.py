"""Plot accuracy against the bound, where one attack was measured at several bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gauntlet.reports.bound_curves import Point, accuracy_curves
from gauntlet.reports.paper_table import PaperTable
from gauntlet.reports.plots.canvas import COLOURS, DASHES, MARKS, Plot, as_svg, drawing, percent_axis
from gauntlet.reports.table import bound_text


def bound_plots(table: PaperTable, name: str) -> list[tuple[Plot, list[str]]]:
    """Return one plot per curve key, with a line per run; beside each plot the names of its attacks."""
    curves = {label: accuracy_curves(run) for label, run in zip(table.labels, table.runs, strict=True)}
    keys = list(dict.fromkeys(key for by_key in curves.values() for key in by_key))
    threat_models = [key.threat_model for key in keys]
    plots = []
    for i, key in enumerate(keys):
        lines = {label: by_key.get(key, []) for label, by_key in curves.items()}
        algorithm = f" ({key.algorithm})" if threat_models.count(key.threat_model) > 1 else ""
        attacks = list(dict.fromkeys(point.attack for points in lines.values() for point in points))
        plots.append((_plot(f"{key.threat_model}{algorithm}", lines, f"{name}-{i}"), attacks))
    return plots


def _plot(title: str, lines: Mapping[str, Sequence[Point]], name: str) -> Plot:
    """Draw a line per run. Its colour and style depend on the run's row in the table, so they agree between plots."""
    descriptions = []
    with drawing(2.5 + 0.17 * -(-len(lines) // 2)) as (figure, grid):
        axes = grid[0, 0]
        for i, (label, points) in enumerate(lines.items()):
            if not points:
                continue
            colour = COLOURS[i % len(COLOURS)]
            cycle = i // len(COLOURS) % len(DASHES)
            bounds = [point.bound for point in points]
            value = [100 * point.accuracy.value for point in points]
            low = [100 * point.accuracy.low for point in points]
            high = [100 * point.accuracy.high for point in points]
            style = {"linestyle": DASHES[cycle], "marker": MARKS[cycle], "markersize": 3.5, "linewidth": 1.5}
            axes.plot(bounds, value, color=colour, label=label, **style)
            axes.fill_between(bounds, low, high, color=colour, alpha=0.12, linewidth=0)
            texts = [f"{share:.1f} % at {bound_text(bound)}" for bound, share in zip(bounds, value, strict=True)]
            descriptions.append(f"{label} {', '.join(texts)}")
        percent_axis(axes, "y")
        axes.set_xlabel("bound")
        axes.set_ylabel("accuracy %")
        figure.legend(loc="outside lower center", ncols=2)
        svg = as_svg(figure, name, f"Accuracy against the bound of {title}: {'; '.join(descriptions)}.")
    return Plot(
        title, svg, "Accuracy in % against the bound, in the threat model's own unit; bands are 95 % intervals."
    )
