"""A plain table as Markdown or for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from gauntlet.evaluation.columns import ResultTable


def as_markdown(table: ResultTable) -> str:
    """The table, its first column to the left and all others to the right, and its caption."""
    lines = [table.head, ["---", *("--:" for _ in table.head[1:])], *table.rows]
    body = "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
    return f"{body}\n{table.caption}\n" if table.caption else body


def as_rich(table: ResultTable, title: str, sections: Sequence[int] = (), bold: Sequence[int] = ()) -> Table:
    """The same for a terminal.

    Args:
        table: what is shown.
        title: above it.
        sections: numbers of rows with a line above them.
        bold: numbers of rows that stand out.
    """
    shown = Table(title=title, title_justify="left", caption=table.caption or None, caption_justify="left")
    for i, name in enumerate(table.head):
        shown.add_column(name, justify="right" if i else "left", no_wrap=True)
    for i, row in enumerate(table.rows):
        if i in sections:
            shown.add_section()
        shown.add_row(*row, style="bold" if i in bold else "")
    return shown
