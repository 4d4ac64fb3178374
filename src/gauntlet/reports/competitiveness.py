"""Competitiveness ratios of several runs over a grid of attacks and bounds.

Dai et al., "MultiRobustBench: benchmarking robustness against multiple attacks", ICML 2023: in each cell, the accuracy
of a classifier divided by the best accuracy of all classifiers compared. CR-avg is the mean over cells, CR-worst the
minimum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from gauntlet.evaluation.columns import Aggregated, ResultTable
from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.accuracy import check_same_examples
from gauntlet.evaluation.statistics.bootstrap import bootstrap_metric
from gauntlet.reports.table import bound_text


class Cell(NamedTuple):
    """One attack at one bound."""

    entry: str
    bound: float


def competitiveness(runs: Mapping[str, Run]) -> ResultTable | None:
    """Return CR-avg and CR-worst of each of several runs, and the cell of the worst ratio.

    Cells in which no classifier is ever correct are left out. Intervals are the bootstrap's, over the examples that all
    runs share.

    Args:
        runs: finished runs under one suite, by label.

    Returns:
        None for a single run, or where the suite compares at no bounds.
    """
    compared = next((one for run in runs.values() for one in run.plan.results.values() if one.compared_at), None)
    if len(runs) < 2 or compared is None or not all(run.complete for run in runs.values()):
        return None
    cells = _cells(compared)
    check_same_examples([run.of_all[cells[0].entry] for run in runs.values()])
    correct = np.array(
        [[run.holds(cell.entry, cell.bound).to_numpy() for cell in cells] for run in runs.values()], dtype=np.float64
    )
    possible = correct.mean(2).max(0) > 0
    correct, cells = correct[:, possible], [cell for cell, kept in zip(cells, possible, strict=True) if kept]
    if not cells:
        return None
    rows = [_row(label, index, correct, cells, next(iter(runs.values()))) for index, label in enumerate(runs)]
    left_out = int((~possible).sum())
    without = f" ({left_out} more, in which all runs have 0 %, are left out)" if left_out else ""
    caption = (
        f"Competitiveness ratio in %: accuracy divided by the best of these {len(runs)} runs, in {len(cells)} cells of"
        f" an attack and a bound{without}."
    )
    return ResultTable(["run", "CR-avg", "CR-worst", "worst at"], rows, caption)


def _cells(compared: Aggregated) -> list[Cell]:
    cells = []
    for entry, bounds in compared.compared_at.items():
        cells += [Cell(entry, bound) for bound in bounds]
    return cells


def _row(label: str, index: int, correct: np.ndarray, cells: list[Cell], run: Run) -> list[str]:
    """A line of the table; `correct` is `[R, K, N]`."""
    examples = pl.DataFrame({"row": np.arange(correct.shape[2])})

    def average(drawn: pl.DataFrame) -> float:
        return float(np.nanmean(_ratios(correct[:, :, drawn["row"].to_numpy()])[index]))

    def worst(drawn: pl.DataFrame) -> float:
        return float(np.nanmin(_ratios(correct[:, :, drawn["row"].to_numpy()])[index]))

    numbers = [bootstrap_metric(examples, metric)._replace(unit="%") for metric in (average, worst)]
    cell = cells[int(_ratios(correct)[index].argmin())]
    at = f"{cell.entry}, {bound_text(cell.bound)} {run.plan.entries[cell.entry].unit}"
    return [label, *(f"{number.text} ({number.interval})" for number in numbers), at.strip()]


def _ratios(correct: np.ndarray) -> np.ndarray:
    """Ratios `[R, K]`; NaN in a resample in which no run is correct."""
    shares = correct.mean(2)
    best = shares.max(0)
    return np.divide(shares, best, out=np.full_like(shares, np.nan), where=best > 0)
