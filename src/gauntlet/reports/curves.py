"""Accuracy against the bound: one suite at several shares of the dataset's bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from rich.table import Table

from gauntlet.evaluation.flags import Flag, rising
from gauntlet.files import read_json
from gauntlet.reports.table import Row, caption, cell, columns, read_card, read_row


def at_share(suite: str, share: float | None) -> str:
    """The name of a suite at a share of the dataset's bounds, `quick@0.5`; at 1 it is the suite itself."""
    return suite if share in (None, 1) else f"{suite}@{share:g}"


def read_curves(folder: Path, suite: str) -> dict[float, Row]:
    """What a run was evaluated at, by share of the dataset's bounds, from the smallest.

    Where accuracy rises with the bound, the cell of the larger one has a flag. Plot a row's `cells` over the share, or
    over its `bounds`.

    Raises:
        UserError: records were taken away since.
    """
    checkpoint = read_card(folder)["checkpoint"]
    plans = {file.stem: read_json(file) for file in (folder / "suites").glob("*.json")}
    mine = {name: plan.get("share", 1.0) for name, plan in plans.items() if plan["checkpoint"] == checkpoint}
    rows = {share: read_row(folder, name) for name, share in mine.items() if name == at_share(suite, share)}
    ordered = dict(sorted(rows.items()))
    for smaller, larger in pairwise(ordered):
        if found := [flag for flag in _rises(ordered[smaller], ordered[larger]) if flag.raised]:
            ordered[larger] = replace(ordered[larger], flags=[*(ordered[larger].flags or ()), *found])
    return ordered


def _rises(smaller: Row, larger: Row) -> Iterator[Flag]:
    for name in larger.bounds:
        before, after = smaller.cells.get(name), larger.cells.get(name)
        if before and after:
            yield rising(name, after.value - before.value)


def curves_table(rows: Mapping[float, Row], title: str) -> Table:
    """For a terminal: an attack per line, a share of the bounds per column."""
    table = Table(title=title, title_justify="left", caption=_caption(rows), caption_justify="left")
    table.add_column("attack", no_wrap=True)
    for share in rows:
        table.add_column(f"× {share:g}", justify="right", no_wrap=True)
    for name, *cells in _lines(rows):
        if name == "union":
            table.add_section()
        table.add_row(name, *cells, style="bold" if name == "union" else "")
    return table


def curves_markdown(rows: Mapping[float, Row]) -> str:
    """For a page."""
    lines = [["attack", *(f"× {share:g}" for share in rows)], ["---", *("--:" for _ in rows)], *_lines(rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{_caption(rows)}\n"


def _lines(rows: Mapping[float, Row]) -> list[list[str]]:
    """Name and cells, attack by attack."""
    names = columns(list(rows.values()))
    return [[name, *(cell(row.cells.get(name), row.mark(name)) for row in rows.values())] for name in names]


def _caption(rows: Mapping[float, Row]) -> str:
    return caption([replace(row, name=f"× {share:g}") for share, row in rows.items()])
