"""Accuracy against the bound: one suite at several shares of the dataset's bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from rich.table import Table

from gauntlet.evaluation.columns import ResultTable
from gauntlet.evaluation.flags import Flag, rising
from gauntlet.evaluation.plan import find_plans, read_card
from gauntlet.evaluation.run import Run, read_run
from gauntlet.evaluation.statistics.estimates import PERCENT
from gauntlet.reports.result_table import as_markdown, as_rich
from gauntlet.reports.table import cell, columns, notes


def at_share(suite: str, share: float | None) -> str:
    """Return the name of a suite at a share of the dataset's bounds, `quick@0.5`; at 1 the suite's own name."""
    return suite if share in (None, 1) else f"{suite}@{share:g}"


def read_curves(folder: Path, suite: str) -> dict[float, Run]:
    """Read all evaluations of a run under a suite, by share of the dataset's bounds, from the smallest.

    Where accuracy rises with the bound, the cell at the larger bound gets a flag.

    Raises:
        UserError: records have been removed.
    """
    card = read_card(folder)
    runs: dict[float, Run] = {}
    for name, plan in find_plans(folder).items():
        share = 1.0 if plan.share is None else plan.share
        if card.is_of(plan) and name == at_share(suite, share):
            runs[share] = read_run(folder, name)
    ordered = dict(sorted(runs.items()))
    for smaller, larger in pairwise(ordered):
        raised = [flag for flag in _rises(ordered[smaller], ordered[larger]) if flag.raised]
        if raised:
            ordered[larger] = replace(ordered[larger], flags=[*(ordered[larger].flags or ()), *raised])
    return ordered


def _rises(smaller: Run, larger: Run) -> Iterator[Flag]:
    for name in larger.shown:
        before, after = smaller.cells.get(name), larger.cells.get(name)
        if before and after:
            yield rising(name, after.value - before.value)


def curves_table(runs: Mapping[float, Run], title: str) -> Table:
    """Return a table for a terminal, with one row per entry and one column per share of the bounds."""
    table = _table(runs)
    names = columns(list(runs.values()))
    unions = [i for i, name in enumerate(names) if any(_is_union(run, name) for run in runs.values())]
    return as_rich(table, title, unions, unions)


def curves_markdown(runs: Mapping[float, Run]) -> str:
    """Return the same table as Markdown."""
    return as_markdown(_table(runs))


def _table(runs: Mapping[float, Run]) -> ResultTable:
    head = ["attack", *(f"× {share:g}" for share in runs)]
    names = columns(list(runs.values()))
    rows = [
        [_label(runs, name), *(cell(run.cells.get(name), run.mark(name)) for run in runs.values())] for name in names
    ]
    named = [replace(run, card=replace(run.card, name=f"× {share:g}")) for share, run in runs.items()]
    return ResultTable(head, rows, "\n".join(notes(named)))


def _label(runs: Mapping[float, Run], name: str) -> str:
    """The name of a column, with its unit if it is an aggregate in a unit of distance."""
    estimates = [run.cells.get(name) for run in runs.values()]
    units = {estimate.unit for estimate in estimates if estimate and estimate.unit != PERCENT}
    return ", ".join([name, *sorted(units)])


def _is_union(run: Run, name: str) -> bool:
    return name in run.aggregates and bool(run.aggregates[name].conjunction)
