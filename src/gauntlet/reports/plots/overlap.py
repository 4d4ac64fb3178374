"""Plot which attacks break the same examples: the paper's Venn figure for any number of attacks.

Lex et al., "UpSet: visualization of intersecting sets", IEEE TVCG 2014.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.overlap import Overlap, overlaps
from gauntlet.reports.plots.canvas import FILL, GRID, INK, MUTED, Plot, as_svg, drawing, only_lines_along

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AREAS = 12  # the largest, of up to 2ᴷ
_MIN_WIDTH = 6  # the axis has room for at least so many bars


def overlap_plot(run: Run, name: str) -> Plot | None:
    """Plot a bar per area, with dots for the attacks it belongs to; None if there is at most one attack."""
    records = run.searched
    if len(records) < 2:
        return None
    areas = overlaps(records)
    total = sum(area.examples for area in areas)
    if not total:
        return None
    shown = areas[:_AREAS]
    names = list(records)
    ratios = [1.5, 0.3 + 0.22 * len(names)]
    with drawing(sum(ratios) + 0.2, 2, sharex=True, height_ratios=ratios) as (figure, grid):
        bars, dots = grid[:, 0]
        bars.bar(range(len(shown)), [area.examples for area in shown], color=FILL, width=0.62)
        for i, area in enumerate(shown):
            bars.annotate(str(area.examples), (i, area.examples), (0, 2), textcoords="offset points", ha="center")
        bars.set_ylabel("examples")
        bars.margins(y=0.15)
        bars.set_xlim(-0.6, max(len(shown), _MIN_WIDTH) - 0.4)
        only_lines_along(bars, "y")
        _membership(dots, shown, names)
        description = "; ".join(f"{', '.join(area.attacks) or 'none'} {area.examples}" for area in shown)
        svg = as_svg(figure, name, f"Examples broken by exactly these attacks: {description}.")
    rest = total - sum(area.examples for area in shown)
    more = f" {len(areas) - len(shown)} smaller areas with {rest} examples are left out." if rest else ""
    caption = f"Of {total} examples right when clean: how many exactly the dotted attacks break.{more}"
    return Plot("Which attacks break the same examples", svg, caption)


def _membership(axes: Axes, areas: list[Overlap], names: list[str]) -> None:
    """Draw a column of dots per area, filled for the attacks in it."""
    for column, area in enumerate(areas):
        rows = [row for row, name in enumerate(names) if name in area.attacks]
        axes.plot([column] * len(names), range(len(names)), "o", color=GRID, markersize=6)
        axes.plot([column] * len(rows), rows, "-o", color=INK, markersize=6, linewidth=1.5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xticks([])
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    if any(not area.attacks for area in areas):
        column = next(i for i, area in enumerate(areas) if not area.attacks)
        axes.annotate("none", (column, len(names) - 0.45), ha="center", va="top", color=MUTED, annotation_clip=False)
