"""Render the paper's table as Markdown."""

from __future__ import annotations

from gauntlet.evaluation.columns import ResultTable
from gauntlet.reports.paper_table import Cell, PaperTable
from gauntlet.reports.result_table import as_markdown


def markdown(sheet: PaperTable) -> str:
    """Return one row per run, with the published numbers in the row below it where there are some."""
    head = ["run", *(f"{name} {sheet.bound(name)}".strip() for name in sheet.columns)]
    rows = []
    for i, label in enumerate(sheet.labels):
        cells = [sheet.cells[i][name] for name in sheet.columns]
        rows.append([label, *map(_own, cells)])
        if sheet.has_published(i):
            rows.append(["published", *(cell.beside for cell in cells)])
    notes = "  \n".join(note.replace("*", r"\*") for note in sheet.notes())
    table = as_markdown(ResultTable(head, rows, notes))
    certified = f"\n{as_markdown(sheet.beside)}" if sheet.beside else ""
    return f"## {sheet.title}\n\n{table}{certified}"


def _own(cell: Cell) -> str:
    value = f"**{cell.value}**" if cell.best else cell.value
    marks = cell.marks.replace("*", r"\*")
    return f"{value}{marks} ({cell.interval})" if cell.interval else value
