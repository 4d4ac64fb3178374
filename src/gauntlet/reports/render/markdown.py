"""The table as Markdown."""

from __future__ import annotations

from gauntlet.reports.paper_table import Cell, PaperTable
from gauntlet.reports.render.result_table import as_markdown


def markdown(sheet: PaperTable) -> str:
    """A run per row, the published numbers in a row below it where there are some."""
    head = ["run", *(f"{name} {sheet.bound(name)}".strip() for name in sheet.columns)]
    lines = [head, ["---", *("--:" for _ in sheet.columns)]]
    for i, label in enumerate(sheet.labels):
        cells = [sheet.cells[i][name] for name in sheet.columns]
        lines.append([label, *map(_ours, cells)])
        if sheet.has_published(i):
            lines.append(["published", *(cell.beside for cell in cells)])
    table = "".join(f"| {' | '.join(part.replace('|', chr(92) + '|') for part in line)} |\n" for line in lines)
    notes = "  \n".join(note.replace("*", "\\*") for note in sheet.notes())
    beside = f"\n{as_markdown(sheet.beside)}" if sheet.beside else ""
    return f"## {sheet.title}\n\n{table}\n{notes}\n{beside}"


def _ours(cell: Cell) -> str:
    value = f"**{cell.value}**" if cell.best else cell.value
    marks = cell.marks.replace("*", "\\*")
    return f"{value}{marks} ({cell.interval})" if cell.interval else value
