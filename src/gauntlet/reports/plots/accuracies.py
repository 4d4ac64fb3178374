"""A column or a row of the table as a picture: numbers with their intervals, the published ones beside them."""

from __future__ import annotations

from collections.abc import Sequence

from gauntlet.reports.plots.canvas import FILL, INK, Plot, as_svg, drawing, only_lines_along, percent_axis
from gauntlet.reports.sheet import Cell, Sheet


def column_plot(sheet: Sheet, column: str, name: str) -> Plot | None:
    """One column: a run per line; None where no run has a number.

    Args:
        sheet: the table.
        column: of the table.
        name: of the drawing on its page.
    """
    return _plot(
        [(label, cells[column]) for label, cells in zip(sheet.labels, sheet.cells, strict=True)],
        _head(sheet, column),
        name,
    )


def row_plot(sheet: Sheet, index: int, name: str) -> Plot | None:
    """One run: a column per line.

    Args:
        sheet: the table.
        index: of the run.
        name: of the drawing on its page.
    """
    rows = [(_head(sheet, column), sheet.cells[index][column]) for column in sheet.columns]
    return _plot(rows, sheet.labels[index], name)


def _head(sheet: Sheet, column: str) -> str:
    bound = sheet.bound(column)
    return f"{column}, bound {bound}" if bound else column


def _plot(rows: Sequence[tuple[str, Cell]], title: str, name: str) -> Plot | None:
    if all(cell.ours is None for _, cell in rows):
        return None
    with drawing(0.55 + 0.26 * len(rows)) as (figure, grid):
        axes = grid[0, 0]
        for place, (_, cell) in enumerate(rows):
            if cell.ours is not None:
                low, value, high = (100 * share for share in (cell.ours.low, cell.ours.value, cell.ours.high))
                axes.plot([low, high], [place, place], color=FILL, linewidth=2, solid_capstyle="butt")
                axes.plot([value], [place], "o", color=FILL, markersize=5.5)
                axes.annotate(
                    f"{cell.value}{cell.marks}",
                    (1.01, place),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontweight="bold" if cell.best else "normal",
                )
            if cell.published is not None:
                style = {"markerfacecolor": "white", "markeredgecolor": INK, "markersize": 4, "markeredgewidth": 0.9}
                axes.plot([100 * cell.published], [place + 0.3], "D", **style)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        percent_axis(axes, "x")
        only_lines_along(axes, "x")
        said = "; ".join(f"{label} {cell.value} % ({cell.interval})" for label, cell in rows if cell.ours)
        svg = as_svg(figure, name, f"Accuracy in %, {title}: {said}.")
    diamonds = " ◇ is the published number." if any(cell.published is not None for _, cell in rows) else ""
    return Plot(title, svg, f"Accuracy in %, with 95 % intervals.{diamonds}")
