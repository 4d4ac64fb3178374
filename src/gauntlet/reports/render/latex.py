r"""Render the table as LaTeX: a `table` for `\input`, with `\usepackage{booktabs}` in the preamble and nothing else."""

from __future__ import annotations

from gauntlet.evaluation.columns import ResultTable
from gauntlet.reports.paper_table import Cell, PaperTable

_ESCAPED = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "†": r"$^{\dagger}$",
    "*": r"$^{*}$",
    "–": "--",
    "−": "$-$",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "|": r"\textbar{}",
    "<": r"$<$",
    ">": r"$>$",
}


def latex(table: PaperTable) -> str:
    r"""Return LaTeX with, for each run, a line of numbers, a line of intervals, and one of published numbers if any.

    The table is as wide as its numbers: put it into `table*`, or into a `\resizebox`, if the page is narrower. A table
    of more columns than fit is transposed: a line per column, a column per run. Further tables of the runs follow.
    """
    lines = _transposed(table) if table.is_wide else _lines(table)
    width = len(table.labels) if table.is_wide else len(table.columns)
    first = _table(lines, width, f"{table.title}. {' '.join(table.notes())}")
    return "\n".join([first, *(_plain(further, table.title) for further in table.more.values())])


def _plain(table: ResultTable, title: str) -> str:
    lines = [_line([*map(escape, table.head)]), r"    \midrule", *(_line([*map(escape, row)]) for row in table.rows)]
    return _table(lines, len(table.head) - 1, f"{title}. {table.caption}")


def _table(lines: list[str], width: int, caption: str) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape(caption)}}}",
            r"  \setlength{\tabcolsep}{4pt}",
            rf"  \begin{{tabular}}{{l{'r' * width}}}",
            r"    \toprule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _lines(table: PaperTable) -> list[str]:
    columns = table.columns
    bounds = [escape(table.bound(name)) for name in columns]
    lines = [_line(["training", *map(escape, columns)])]
    if any(bounds):
        lines.append(_line(["", *(_small(bound) for bound in bounds)]))
    for i, label in enumerate(table.labels):
        cells = [table.cells[i][name] for name in columns]
        lines += [r"    \midrule", _line([escape(label), *map(_value, cells)])]
        lines.append(_line(["", *(_small(escape(cell.interval)) for cell in cells)]))
        if table.has_published(i):
            lines.append(_line([r"\quad published", *(escape(cell.beside) for cell in cells)]))
    return lines


def _transposed(table: PaperTable) -> list[str]:
    lines = [_line(["", *map(escape, table.labels)]), r"    \midrule"]
    for name in table.columns:
        head = f"{name} {table.bound(name)}".strip()
        lines.append(_line([escape(head), *(_in_one(cells[name]) for cells in table.cells)]))
    return lines


def _in_one(cell: Cell) -> str:
    parts = [_value(cell), _small(escape(cell.interval)), escape(cell.beside)]
    return " ".join(part for part in parts if part)


def escape(text: str) -> str:
    """Return text that LaTeX prints unchanged."""
    return "".join(_ESCAPED.get(sign, sign) for sign in text)


def _value(cell: Cell) -> str:
    value = escape(cell.value)
    return (rf"\textbf{{{value}}}" if cell.best else value) + escape(cell.marks)


def _small(text: str) -> str:
    return rf"{{\scriptsize {text}}}" if text else ""


def _line(parts: list[str]) -> str:
    return f"    {' & '.join(parts)} \\\\"
