"""The table on a terminal."""

from __future__ import annotations

from rich.table import Table

from gauntlet.reports.paper_table import Cell, PaperTable


def terminal_table(sheet: PaperTable) -> Table:
    """A run per row; under every number its interval, and the published one where there is one.

    More columns than go on a terminal are rows, and the runs columns.
    """
    notes = "\n".join(sheet.notes())
    table = Table(title=sheet.title, title_justify="left", caption=notes, caption_justify="left", show_lines=True)
    return _upright(sheet, table) if sheet.is_wide else _lying(sheet, table)


def _upright(sheet: PaperTable, table: Table) -> Table:
    table.show_lines = False
    for name in ("", *sheet.labels):
        table.add_column(name, justify="right" if name else "left")
    for name in sheet.columns:
        shown = [_shown(cells[name]).replace("\n", "  ") for cells in sheet.cells]
        table.add_row(f"{name} {sheet.bound(name)}".strip(), *shown)
    return table


def _lying(sheet: PaperTable, table: Table) -> Table:
    table.add_column("run", no_wrap=True)
    for name in sheet.columns:
        bound = sheet.bound(name)
        table.add_column(f"{name}\n{bound}" if bound else name, justify="right", no_wrap=True)
    for i, label in enumerate(sheet.labels):
        name = label.replace("/", "\n", 1) if "/" in label else f"{label}\n"
        name += "\npublished" * sheet.has_published(i)
        table.add_row(name, *(_shown(sheet.cells[i][column]) for column in sheet.columns))
    return table


def _shown(cell: Cell) -> str:
    value = f"[bold]{cell.value}[/bold]" if cell.best else cell.value
    return "\n".join(line for line in (f"{value}{cell.marks}", cell.interval, cell.beside) if line)
