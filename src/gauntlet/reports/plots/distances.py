"""How far the images of successful attacks are from the clean ones."""

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

_BINS, _HEIGHT = 40, 0.8  # of a histogram, as a share of its row
_NAMES = {
    "linf": "L∞",
    "l2": "L2",
    "perceptual": "reference distance",
    "lpips": "LPIPS",
}


def distance_plot(run: Run, name: str) -> Plot | None:
    """A histogram per attack and distance; None where no attack broke anything."""
    hits = {attack: frame.filter(broken(frame)) for attack, frame in run.searched.items()}
    hits = {attack: frame for attack, frame in hits.items() if len(frame)}
    kinds = [kind for kind in DISTANCES if kind in _NAMES and any(_measured(frame, kind) for frame in hits.values())]
    if not kinds:
        return None
    with drawing(0.7 + 0.34 * len(hits), 1, len(kinds), sharey=True) as (figure, grid):
        for axes, kind in zip(grid[0], kinds, strict=True):
            _histograms(axes, {row: frame[kind].drop_nulls() for row, frame in enumerate(hits.values())})
            axes.set_title(_NAMES[kind])
        grid[0, 0].set_yticks(range(len(hits)), list(hits))
        grid[0, 0].set_ylim(len(hits) - 0.4, -0.6)
        said = "; ".join(f"{attack} {_medians(frame, kinds)}" for attack, frame in hits.items())
        svg = as_svg(figure, name, f"Distances of the images that fool it, medians: {said}.")
    caption = (
        "Images that fool it: how far they are from the clean ones. The mark is the median; heights are not shared."
    )
    return Plot("Distances", svg, caption)


def _histograms(axes: Axes, values: Mapping[int, pl.Series]) -> None:
    """One above the other, by row, each as high as its own largest bin."""
    known = {row: series.to_numpy() for row, series in values.items() if len(series)}
    top = max(float(numbers.max()) for numbers in known.values()) or 1.0
    for row, numbers in known.items():
        counts, edges = np.histogram(numbers, bins=_BINS, range=(0, 1.02 * top))
        ground, filled = row + 0.4, counts.nonzero()[0]
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
