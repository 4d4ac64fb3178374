"""Render a `ResultTable` as Markdown or for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from rich.table import Table

from gauntlet.evaluation.columns import ResultTable


def as_markdown(table: ResultTable) -> str:
    """Return the table and its caption. The first column is left-aligned, all others are right-aligned."""
    alignment = ["---", *("--:" for _ in table.head[1:])]
    body = "".join(map(_markdown_line, chain([table.head, alignment], table.rows)))
    return f"{body}\n{table.caption}\n" if table.caption else body


def _markdown_line(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |\n"


def as_rich(
    table: ResultTable,
    title: str,
    sections: Sequence[int] = (),
    bold: Sequence[int] = (),
    *,
    lines: bool = False,
    wrap: bool = False,
    min_width: int | None = None,
) -> Table:
    """Return the table for a terminal, aligned as in `as_markdown`.

    Args:
        table: what is shown; cells may have rich's markup.
        title: text above the table.
        sections: indices of rows with a line above them.
        bold: indices of rows in bold.
        lines: draw a line between all rows.
        wrap: let cells wrap where the terminal is too narrow.
        min_width: of the table, in characters.
    """
    shown = Table(
        title=title,
        title_justify="left",
        caption=table.caption or None,
        caption_justify="left",
        show_lines=lines,
        min_width=min_width,
    )
    for i, name in enumerate(table.head):
        shown.add_column(name, justify="right" if i else "left", no_wrap=not wrap)
    for i, row in enumerate(table.rows):
        if i in sections:
            shown.add_section()
        shown.add_row(*row, style="bold" if i in bold else "")
    return shown
