"""Render the paper's table as Markdown."""

from __future__ import annotations

from gauntlet.evaluation.columns import ResultTable
from gauntlet.reports.paper_table import Cell, PaperTable
from gauntlet.reports.result_table import as_markdown


def markdown(table: PaperTable) -> str:
    """Return one row per run, with the published numbers in the row below it where there are some."""
    head = ["run", *(f"{name} {table.bound(name)}".strip() for name in table.columns)]
    rows = []
    for i, label in enumerate(table.labels):
        cells = [table.cells[i][name] for name in table.columns]
        rows.append([label, *map(_own, cells)])
        if table.has_published(i):
            rows.append(["published", *(cell.beside for cell in cells)])
    notes = "  \n".join(note.replace("*", r"\*") for note in table.notes())
    text = as_markdown(ResultTable(head, rows, notes))
    more = "".join(f"\n{as_markdown(further)}" for further in table.more.values())
    return f"## {table.title}\n\n{text}{more}"


def _own(cell: Cell) -> str:
    value = f"**{cell.value}**" if cell.best else cell.value
    marks = cell.marks.replace("*", r"\*")
    return f"{value}{marks} ({cell.interval})" if cell.interval else value
