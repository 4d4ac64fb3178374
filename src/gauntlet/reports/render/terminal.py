"""Render the paper's table for a terminal."""

from __future__ import annotations

from rich.table import Table

from gauntlet.evaluation.columns import ResultTable
from gauntlet.reports.paper_table import Cell, PaperTable
from gauntlet.reports.result_table import as_rich


def terminal_table(table: PaperTable) -> Table:
    """Return one row per run; each cell has its number, the interval, and the published number if there is one.

    A table with more columns than fit on a terminal is transposed: one row per column, one column per run.
    """
    notes = "\n".join(table.notes())
    if table.is_wide:
        return as_rich(ResultTable(["", *table.labels], _transposed_rows(table), notes), table.title, wrap=True)
    head = ["run", *(_column_head(table, name) for name in table.columns)]
    return as_rich(ResultTable(head, _rows(table), notes), table.title, lines=True)


def _column_head(table: PaperTable, name: str) -> str:
    bound = table.bound(name)
    return f"{name}\n{bound}" if bound else name


def _rows(table: PaperTable) -> list[list[str]]:
    rows = []
    for i, label in enumerate(table.labels):
        # Names take two lines, like a number with its interval.
        name = label.replace("/", "\n", 1) if "/" in label else f"{label}\n"
        if table.has_published(i):
            name += "\npublished"
        rows.append([name, *(_cell_text(table.cells[i][column]) for column in table.columns)])
    return rows


def _transposed_rows(table: PaperTable) -> list[list[str]]:
    rows = []
    for name in table.columns:
        texts = [_cell_text(cells[name]).replace("\n", "  ") for cells in table.cells]
        rows.append([f"{name} {table.bound(name)}".strip(), *texts])
    return rows


def _cell_text(cell: Cell) -> str:
    value = f"[bold]{cell.value}[/bold]" if cell.best else cell.value
    lines = [f"{value}{cell.marks}", cell.interval, cell.beside]
    return "\n".join(line for line in lines if line)
