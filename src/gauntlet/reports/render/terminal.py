"""Render the paper's table for a terminal."""

from __future__ import annotations

from rich.table import Table

from gauntlet.evaluation.columns import ResultTable
from gauntlet.reports.paper_table import Cell, PaperTable
from gauntlet.reports.result_table import as_rich


def terminal_table(sheet: PaperTable) -> Table:
    """Return one row per run; each cell has its number, the interval, and the published number if there is one.

    A table with more columns than fit on a terminal is transposed: one row per column, one column per run.
    """
    notes = "\n".join(sheet.notes())
    if sheet.is_wide:
        return as_rich(ResultTable(["", *sheet.labels], _transposed_rows(sheet), notes), sheet.title, wrap=True)
    head = ["run", *(_column_head(sheet, name) for name in sheet.columns)]
    return as_rich(ResultTable(head, _rows(sheet), notes), sheet.title, lines=True)


def _column_head(sheet: PaperTable, name: str) -> str:
    bound = sheet.bound(name)
    return f"{name}\n{bound}" if bound else name


def _rows(sheet: PaperTable) -> list[list[str]]:
    rows = []
    for i, label in enumerate(sheet.labels):
        # Names take two lines, like a number with its interval.
        name = label.replace("/", "\n", 1) if "/" in label else f"{label}\n"
        if sheet.has_published(i):
            name += "\npublished"
        rows.append([name, *(_cell_text(sheet.cells[i][column]) for column in sheet.columns)])
    return rows


def _transposed_rows(sheet: PaperTable) -> list[list[str]]:
    rows = []
    for name in sheet.columns:
        texts = [_cell_text(cells[name]).replace("\n", "  ") for cells in sheet.cells]
        rows.append([f"{name} {sheet.bound(name)}".strip(), *texts])
    return rows


def _cell_text(cell: Cell) -> str:
    value = f"[bold]{cell.value}[/bold]" if cell.best else cell.value
    lines = [f"{value}{cell.marks}", cell.interval, cell.beside]
    return "\n".join(line for line in lines if line)
