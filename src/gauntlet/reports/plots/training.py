"""Plot training curves from `metrics.csv`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from gauntlet.reports.plots.canvas import COLOURS, Plot, as_svg, drawing, percent_axis

_POINTS = 200  # of a curve; more are averaged in groups
_LOSSES = {"train/loss": "training"}
_ACCURACIES = {
    "train/clean_accuracy": "training, clean",
    "train/adversarial_accuracy": "training, attacked",
    "val/accuracy": "validation, clean",
    "val/adversarial_accuracy": "validation, attacked",
}


def training_plot(folder: Path, name: str) -> Plot | None:
    """Plot loss and accuracies against the step; None if the folder has no training metrics."""
    file = folder / "metrics.csv"
    table = pl.read_csv(file.read_bytes(), infer_schema_length=None) if file.exists() else pl.DataFrame()
    losses, accuracies = (_measured(table, kinds) for kinds in (_LOSSES, _ACCURACIES))
    if not losses and not accuracies:
        return None
    with drawing(2.9, 2, sharex=True, height_ratios=[1, 1.3]) as (figure, grid):
        above, below = grid[:, 0]
        for key in losses:
            above.plot(*curve(table, key), color=COLOURS[0], linewidth=1.2)
        above.set_ylabel("loss")
        for colour, (key, label) in zip(
            (COLOURS[5], COLOURS[0], COLOURS[4], COLOURS[1]), accuracies.items(), strict=False
        ):
            steps, values = curve(table, key)
            style = "-" if key.startswith("train") else "o-"
            below.plot(
                steps, [100 * v for v in values], style, color=colour, label=label, linewidth=1.2, markersize=2.5
            )
        percent_axis(below, "y")
        below.set_ylabel("accuracy %")
        below.set_xlabel("step")
        figure.legend(loc="outside lower center", ncols=2)
        finals = [f"{label} {100 * curve(table, key)[1][-1]:.1f} %" for key, label in accuracies.items()]
        description = f"Loss and accuracy against the training step. At the end: {'; '.join(finals) or 'no accuracy'}."
        svg = as_svg(figure, name, description)
    return Plot("Training", svg, "Loss and accuracy, in %, against the step.")


def _measured(table: pl.DataFrame, kinds: Mapping[str, str]) -> dict[str, str]:
    return {key: label for key, label in kinds.items() if key in table.columns and curve(table, key)[0]}


def curve(table: pl.DataFrame, key: str) -> tuple[list[float], list[float]]:
    """Return steps and values of a metric, at most `_POINTS` points; each is the mean of a group of neighbours."""
    points = (
        table.select("step", pl.col(key).cast(pl.Float64)).drop_nulls().filter(pl.col(key).is_finite()).sort("step")
    )
    group = -(-len(points) // _POINTS) or 1
    points = points.with_row_index().group_by(pl.col("index") // group, maintain_order=True).mean()
    return points["step"].to_list(), points[key].to_list()
