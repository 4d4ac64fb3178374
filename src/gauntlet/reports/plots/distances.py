"""Plot the distances between clean images and the images of successful attacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.distances import DISTANCES
from gauntlet.evaluation.statistics.overlap import broken
from gauntlet.reports.plots.canvas import FILL, INK, Plot, as_svg, drawing, only_lines_along

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 40  # of a histogram
_HEIGHT = 0.8  # of a histogram, as a share of its row
_NAMES = {
    "linf": "L∞",
    "l2": "L2",
    "perceptual": "reference distance",
    "lpips": "LPIPS",
}


def distance_plot(run: Run, name: str) -> Plot | None:
    """Plot a histogram per attack and distance; None if no attack broke an example."""
    successful: dict[str, pl.DataFrame] = {}
    for attack, records in run.searched.items():
        frame = records.filter(broken(records))
        if len(frame):
            successful[attack] = frame
    kinds = [
        kind for kind in DISTANCES if kind in _NAMES and any(_measured(frame, kind) for frame in successful.values())
    ]
    if not kinds:
        return None
    with drawing(0.7 + 0.34 * len(successful), 1, len(kinds), sharey=True) as (figure, grid):
        for axes, kind in zip(grid[0], kinds, strict=True):
            _histograms(axes, {row: frame[kind].drop_nulls() for row, frame in enumerate(successful.values())})
            axes.set_title(_NAMES[kind])
        grid[0, 0].set_yticks(range(len(successful)), list(successful))
        grid[0, 0].set_ylim(len(successful) - 0.4, -0.6)
        description = "; ".join(f"{attack} {_medians(frame, kinds)}" for attack, frame in successful.items())
        svg = as_svg(figure, name, f"Distances of the images that fool it, medians: {description}.")
    caption = (
        "Images that fool it: how far they are from the clean ones. The mark is the median; heights are not shared."
    )
    return Plot("Distances", svg, caption)


def _histograms(axes: Axes, values: Mapping[int, pl.Series]) -> None:
    """Draw histograms below each other, by row, each scaled to its own largest bin."""
    known = {row: series.to_numpy() for row, series in values.items() if len(series)}
    top = max(float(numbers.max()) for numbers in known.values()) or 1.0
    for row, numbers in known.items():
        counts, edges = np.histogram(numbers, bins=_BINS, range=(0, 1.02 * top))
        ground = row + 0.4
        filled = counts.nonzero()[0]
        inside = slice(int(filled[0]), int(filled[-1]) + 1)
        heights = ground - _HEIGHT * counts[inside] / counts.max()
        axes.stairs(heights, edges[inside.start : inside.stop + 1], baseline=ground, fill=True, color=FILL)
        axes.plot([float(np.median(numbers))] * 2, [ground, ground + 0.12], color=INK, linewidth=1.5)
    axes.set_xlim(0, 1.02 * top)
    axes.locator_params(axis="x", nbins=3)
    axes.spines["left"].set_visible(False)
    only_lines_along(axes, "x")


def _measured(frame: pl.DataFrame, kind: str) -> bool:
    return frame[kind].null_count() < len(frame)


def _medians(frame: pl.DataFrame, kinds: list[str]) -> str:
    known = [kind for kind in kinds if _measured(frame, kind)]
    return ", ".join(f"{_NAMES[kind]} {np.median(frame[kind].drop_nulls()):.3g}" for kind in known)
