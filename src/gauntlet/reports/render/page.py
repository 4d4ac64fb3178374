"""Render the report as one self-contained HTML page, without scripts, network access or other files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gauntlet.evaluation.flags import Flag
from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.estimates import PERCENT
from gauntlet.reports.gallery import Gallery, gallery
from gauntlet.reports.paper_table import PaperTable
from gauntlet.reports.plots import (
    Plot,
    bound_plots,
    build_up_plot,
    certified_plots,
    column_plot,
    distance_plot,
    overlap_plot,
    row_plot,
    training_plot,
)
from gauntlet.reports.stamps import attacks_stamp, code_of, column_stamp, run_stamp, versions

_PICTURES = 2_000_000  # bytes for the galleries of all runs, so that twelve runs stay under 5 MB
_PICTURE = 300_000  # for that of one run
_OPEN = 3  # runs are unfolded at first if there are at most so many


@dataclass(frozen=True)
class Figure:
    """A plot and the provenance of its numbers."""

    plot: Plot
    stamp: str


@dataclass(frozen=True)
class RunSection:
    """The section of one run."""

    anchor: str
    label: str
    run: Run
    stamp: str
    figures: Sequence[Figure]
    gallery: Gallery | None
    flags: Sequence[Flag]
    code: str
    versions: str


@dataclass(frozen=True)
class TableSection:
    """The section of one table."""

    anchor: str
    table: PaperTable
    accuracies: Sequence[Figure]
    bounds: Sequence[Figure]
    runs: Sequence[RunSection]
    unfolded: bool


def page(tables: Sequence[PaperTable], made_with: Mapping[str, Any]) -> str:
    """Return the HTML.

    Args:
        tables: the tables to show.
        made_with: provenance of the report itself.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    count = sum(len(table.runs) for table in tables)
    budget = min(_PICTURE, _PICTURES // count)
    sections = [_table_section(i, table, budget, count <= _OPEN) for i, table in enumerate(tables)]
    templates = FileSystemLoader(Path(__file__).parent / "template")
    environment = Environment(
        loader=templates, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html").render(
        sections=sections, count=count, code=code_of(made_with), versions=versions(made_with)
    )


def _breakable(name: str) -> str:
    """Escape a name, and allow line breaks after its `_` and `/`."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_/])", r"\1<wbr>", str(escape(name))))


def _table_section(index: int, table: PaperTable, budget: int, unfolded: bool) -> TableSection:
    anchor = f"table-{index}"
    runs = [
        _run_section(f"run-{index}-{i}", label, run, budget)
        for i, (label, run) in enumerate(zip(table.labels, table.runs, strict=True))
    ]
    return TableSection(
        anchor,
        table,
        _accuracies(table, anchor),
        [Figure(plot, attacks_stamp(table, names)) for plot, names in bound_plots(table, f"{anchor}-bound")],
        runs,
        unfolded,
    )


def _accuracies(table: PaperTable, anchor: str) -> list[Figure]:
    """Make a plot per column; for a single run one plot has all columns in percent."""
    columns = list(enumerate(table.columns))
    whole = []
    if len(table.runs) == 1:
        plot = row_plot(table, 0, anchor)
        whole = [Figure(plot, run_stamp(table.runs[0]))] if plot else []
        columns = [(i, column) for i, column in columns if table.unit(column) != PERCENT]
    plots = [(column, column_plot(table, column, f"{anchor}-{i}")) for i, column in columns]
    return [*whole, *(Figure(plot, column_stamp(table, column)) for column, plot in plots if plot)]


def _run_section(anchor: str, label: str, run: Run, budget: int) -> RunSection:
    stamp = run_stamp(run)
    plots = [
        *certified_plots(run, f"{anchor}-certified"),
        build_up_plot(run, f"{anchor}-union"),
        overlap_plot(run, f"{anchor}-overlap"),
        distance_plot(run, f"{anchor}-distances"),
        training_plot(run.folder, f"{anchor}-training"),
    ]
    return RunSection(
        anchor,
        label,
        run,
        stamp,
        [Figure(plot, stamp) for plot in plots if plot],
        gallery(run.folder / "pictures" / f"{run.suite}.png", budget),
        run.flags_by_column,
        code_of(run.provenance),
        versions(run.provenance),
    )
