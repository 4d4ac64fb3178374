"""Plot how the union builds up: the share of examples still correct after each attack in turn."""

from __future__ import annotations

from typing import NamedTuple

from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.accuracy import every, share_of
from gauntlet.reports.plots.canvas import FILL, INK, Plot, as_svg, drawing, only_lines_along, percent_axis


class Stage(NamedTuple):
    """The accuracy after one more attack."""

    attack: str
    alone: float
    """Accuracy under this attack alone, in [0, 1]."""
    together: float
    """Accuracy under this attack and all before it, in [0, 1]."""


def build_up(run: Run) -> list[Stage]:
    """Return the stages of the union in the suite's order; empty if its attacks were not all run on every example."""
    bounds = next((column.conjunction for column in run.aggregates.values() if column.conjunction), {})
    if not bounds or not bounds.keys() <= run.full.keys():
        return []
    stages: list[Stage] = []
    holds = []
    for name, bound in bounds.items():
        holds.append(run.holds(name, bound))
        stages.append(Stage(name, share_of(holds[-1]).value, share_of(every(holds)).value))
    return stages


def build_up_plot(run: Run, name: str) -> Plot | None:
    """Plot a bar per attack; None if there is no union."""
    stages = build_up(run)
    if not stages:
        return None
    with drawing(0.55 + 0.27 * len(stages)) as (figure, grid):
        axes = grid[0, 0]
        rows = range(len(stages))
        axes.barh(rows, [100 * stage.together for stage in stages], height=0.62, color=FILL)
        axes.plot([100 * stage.alone for stage in stages], rows, "|", color=INK, markersize=11, markeredgewidth=1.6)
        for row, stage in zip(rows, stages, strict=True):
            axes.annotate(f"{100 * stage.together:.1f}", (1.01, row), xycoords=("axes fraction", "data"), va="center")
        axes.set_yticks(rows, [stage.attack if not i else f"+ {stage.attack}" for i, stage in enumerate(stages)])
        axes.set_ylim(len(stages) - 0.4, -0.6)
        percent_axis(axes, "x")
        only_lines_along(axes, "x")
        description = "; ".join(f"{stage.attack} {100 * stage.together:.1f} %" for stage in stages)
        svg = as_svg(figure, name, f"Still correct after each attack of the union in turn: {description}.")
    caption = "Share of examples, in %, still correct under an attack and all above it; the tick is the attack alone."
    return Plot("Union, attack by attack", svg, caption)
