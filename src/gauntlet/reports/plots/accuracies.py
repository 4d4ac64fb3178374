"""Plot a column or a row of the table: numbers with their intervals, and the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from gauntlet.evaluation.statistics.estimates import PERCENT, Estimate
from gauntlet.kinds import Kind
from gauntlet.reports.paper_table import Cell, PaperTable
from gauntlet.reports.plots.canvas import FILL, INK, Plot, as_svg, drawing, only_lines_along, percent_axis


def column_plot(table: PaperTable, column: str, name: str) -> Plot | None:
    """Plot one column with a run per line, in percent or in its unit of distance; None if no run has a number.

    Args:
        table: the table to plot.
        column: name of the column.
        name: name of the plot, unique on its page.
    """
    rows = [(label, cells[column]) for label, cells in zip(table.labels, table.cells, strict=True)]
    return _plot(rows, _head(table, column), name, _word(table, [column]))


def row_plot(table: PaperTable, index: int, name: str) -> Plot | None:
    """Plot one run with a column per line, without the columns in a unit of distance.

    Args:
        table: the table to plot.
        index: index of the run.
        name: name of the plot, unique on its page.
    """
    columns = [column for column in table.columns if table.unit(column) == PERCENT]
    rows = [(_head(table, column), table.cells[index][column]) for column in columns]
    return _plot(rows, table.labels[index], name, _word(table, columns))


def _head(table: PaperTable, column: str) -> str:
    """`linf, bound 8/255`, `smooth, certified at 0.5 L2`, `median distance, L2`."""
    text = table.bound(column)
    entries = [run.plan.entries[column] for run in table.runs if column in run.plan.entries]
    bounded = any(one.kind is Kind.ATTACK for one in entries)
    return ", ".join(part for part in (column, f"bound {text}" if bounded and text else text) if part)


def _word(table: PaperTable, columns: Sequence[str]) -> str:
    """The word for the numbers: `Accuracy`, or the name of an aggregate that is another share."""
    for run in table.runs:
        conjunctions = {name for name, column in run.aggregates.items() if column.conjunction}
        if not conjunctions.union(run.plan.entries).isdisjoint(columns):
            return "Accuracy"
    return next(iter(columns), "Accuracy")


def _plot(rows: Sequence[tuple[str, Cell]], title: str, name: str, word: str) -> Plot | None:
    known = [cell.ours for _, cell in rows if cell.ours is not None]
    if not known:
        return None
    unit = known[0].unit
    scale = 100 if unit == PERCENT else 1
    end = 100.0 if unit == PERCENT else _end(known)
    with drawing(0.55 + 0.26 * len(rows)) as (figure, grid):
        axes = grid[0, 0]
        for i, (_, cell) in enumerate(rows):
            if cell.ours is not None:
                numbers = (cell.ours.low, cell.ours.value, cell.ours.high)
                low, value, high = (min(scale * number, end) for number in numbers)
                axes.plot([low, high], [i, i], color=FILL, linewidth=2, solid_capstyle="butt")
                axes.plot([value], [i], "o", color=FILL, markersize=5.5)
                axes.annotate(
                    f"{cell.value}{cell.marks}",
                    (1.01, i),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontweight="bold" if cell.best else "normal",
                )
            if cell.published is not None:
                style = {"markerfacecolor": "white", "markeredgecolor": INK, "markersize": 4, "markeredgewidth": 0.9}
                axes.plot([100 * cell.published], [i + 0.3], "D", **style)
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        if unit == PERCENT:
            percent_axis(axes, "x")
        else:
            axes.set_xlim(-0.03 * end, 1.03 * end)
        only_lines_along(axes, "x")
        description = "; ".join(f"{label} {cell.value} {unit} ({cell.interval})" for label, cell in rows if cell.ours)
        svg = as_svg(figure, name, f"{word} in {unit}, {title}: {description}.")
    diamonds = " ◇ is the published number." if any(cell.published is not None for _, cell in rows) else ""
    beyond = " What goes beyond every number is at the right end." if any(one.high == inf for one in known) else ""
    return Plot(title, svg, f"{word} in {unit}, with 95 % intervals.{beyond}{diamonds}")


def _end(known: Sequence[Estimate]) -> float:
    """The end of an axis of distances: beyond the largest finite number."""
    finite = [number for one in known for number in (one.low, one.value, one.high) if number < inf]
    return 1.1 * max(finite, default=0.0) or 1.0
