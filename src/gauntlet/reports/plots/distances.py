"""How far the images of successful attacks are from the clean ones."""

from __future__ import annotations

import polars as pl

from gauntlet.evaluation.changes import DISTANCES
from gauntlet.evaluation.overlap import broken
from gauntlet.reports.plots.canvas import FILL, MUTED, Plot, as_svg, drawing
from gauntlet.reports.runs import Run

_BINS = 32
_NAMES = {
    "linf": "L∞",
    "l2": "L2",
    "lpips": "LPIPS (reference)",
    "lpips_calibrated": "LPIPS (calibrated)",
    "size": "share of the bound",
}


def distance_plot(run: Run, name: str) -> Plot | None:
    """A row of histograms per attack, a column per distance; None where no attack broke anything."""
    hits = {attack: frame.filter(broken(frame)) for attack, frame in run.whole.items()}
    hits = {attack: frame for attack, frame in hits.items() if len(frame)}
    kinds = [kind for kind in DISTANCES if kind != "size" and any(_measured(frame, kind) for frame in hits.values())]
    if not kinds:
        return None
    with drawing(0.5 + 0.42 * len(hits), len(hits), len(kinds), sharex="col") as (figure, grid):
        for column, kind in enumerate(kinds):
            values = {a: frame[kind].drop_nulls() for a, frame in hits.items() if _measured(frame, kind)}
            top = max(float(series.max()) for series in values.values()) * 1.02 or 1.0  # type: ignore[arg-type]
            for row, attack in enumerate(hits):
                axes = grid[row, column]
                axes.set_yticks([])
                axes.spines["left"].set_visible(False)
                axes.locator_params(axis="x", nbins=4)
                if attack in values:
                    axes.hist(values[attack].to_list(), bins=_BINS, range=(0, top), histtype="stepfilled", color=FILL)
                    axes.axvline(float(values[attack].median()), color=MUTED, linewidth=1)  # type: ignore[arg-type]
                axes.set_xlim(0, top)
                if not column:
                    axes.set_ylabel(attack, rotation=0, ha="right", va="center")
            grid[0, column].set_title(_NAMES[kind])
        said = "; ".join(f"{attack} {_medians(frame, kinds)}" for attack, frame in hits.items())
        svg = as_svg(figure, name, f"Distances of the images that fool it, medians: {said}.")
    caption = "Images that fool it: how far they are from the clean ones. The line is the median; heights are not shared."
    return Plot("Distances", svg, caption)


def _measured(frame: pl.DataFrame, kind: str) -> bool:
    return frame[kind].null_count() < len(frame)


def _medians(frame: pl.DataFrame, kinds: list[str]) -> str:
    known = [kind for kind in kinds if _measured(frame, kind)]
    return ", ".join(f"{_NAMES[kind]} {frame[kind].median():.3g}" for kind in known)
