"""Runs as rows, entries and aggregates as columns, a 95 % interval in every cell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.table import Table

from gauntlet.evaluation.aggregate import ResultTable
from gauntlet.evaluation.estimates import PERCENT, Estimate
from gauntlet.evaluation.flags import Flag
from gauntlet.evaluation.run import MARK, Run
from gauntlet.kinds import Kind
from gauntlet.reports.render import as_markdown, as_rich


def cell(value: Estimate | None, mark: str = "") -> str:
    """`61.5† (56.6–66.1)`, a share in percent; a dash where there is nothing to say."""
    return "–" if value is None else f"{value.text}{mark} ({value.interval})"


def columns(runs: Sequence[Run]) -> list[str]:
    """All columns of all runs: aggregates as in the paper's tables, then entries in order of first appearance."""
    found = dict.fromkeys(name for run in runs for name in run.cells)
    first = {name for run in runs for name in run.aggregates} - {name for run in runs for name in replacing(run)}
    return [*(name for name in found if name in first), *(name for name in found if name not in first)]


def replacing(run: Run) -> list[str]:
    """The columns of aggregates that stand in the place of entries, and so among them."""
    return [name for result in run.plan.results.values() if result.replaces for name in result.columns]


def column_text(run: Run, column: str) -> str:
    """What a column's number is about, beyond its name: `0.5 L2`, `certified at 0.5 L2`."""
    entry = run.plan.entries.get(column)
    if entry is None:
        estimate = run.cells.get(column)
        return "" if estimate is None or estimate.unit == PERCENT else estimate.unit
    bound = bound_text(entry.bound) if entry.bound else ""
    if entry.kind is Kind.CERTIFICATE:
        word = "conditional" if entry.assumption else "certified"
        return f"{word} at {bound or '0'} {entry.unit}".strip()
    if entry.kind is Kind.MINIMUM_DISTANCE:
        return f"at {bound or '0'} {entry.unit}".strip()
    return bound


def bound_text(bound: float) -> str:
    """`0.5`, and `8/255` where that is what it is."""
    short, levels = f"{bound:.4g}", bound * 255
    if float(short) != bound and abs(levels - round(levels)) < 1e-6:
        return f"{round(levels)}/255"
    return short


def run_table(run: Run, title: str) -> Table:
    """One run for a terminal: an entry per line. An aggregate that brings a table of its own is shown by it."""
    if own := [result.table for result in run.plan.results.values() if result.table]:
        caption = "\n".join([own[0].caption, *notes([run])])
        last = len(own[0].rows) - 1
        return as_rich(ResultTable(own[0].head, own[0].rows, caption), title, [last], [last])
    rows: list[list[str]] = []
    sections: list[int] = []
    bold: list[int] = []
    for name, value in run.cells.items():
        if name in run.aggregates and not sections:
            sections.append(len(rows))
        if name in run.aggregates and run.aggregates[name].conjunction:
            bold.append(len(rows))
        if name in run.survivors:
            shown = ["survivors", ""]
        else:
            shown = ["–", ""] if value is None else [f"{value.text}{run.mark(name)}", value.interval]
        rows.append([name, column_text(run, name), *shown])
    head = ["attack", "bound", "accuracy %", "95 % interval"]
    return as_rich(ResultTable(head, rows, "\n".join(notes([run]))), title, sections, bold)


def run_markdown(run: Run) -> str:
    """One run under one suite for a page."""
    if own := [result.table for result in run.plan.results.values() if result.table]:
        return "\n".join(as_markdown(table) for table in own) + "\n" + "  \n".join(notes([run])) + "\n"
    names = columns([run])
    head = ["run", *(f"{name} {column_text(run, name)}".strip() for name in names)]
    row = [run.name, *(cell(run.cells.get(name), run.mark(name)) for name in names)]
    return as_markdown(ResultTable(head, [row], "")) + "\n" + "  \n".join(notes([run])) + "\n"


def notes(runs: Sequence[Run]) -> list[str]:
    """What the numbers are, and what a reader must know before trusting them: a paragraph, then a line per flag."""
    counts = sorted({value.examples for run in runs for value in run.cells.values() if value})
    text = [f"Accuracy in %, 95 % Wilson intervals, {' / '.join(map(str, counts))} test examples."]
    text += [f"Union of {', '.join(union)}." for union in sorted({tuple(run.union) for run in runs}) if union]
    text += _kinds(runs)
    for run in runs:
        if not run.complete:
            text.append(f"{run.name}: unfinished{', no union yet' if run.union else ''}.")
        if run.survivors:
            text.append(f"{run.name}: {', '.join(run.survivors)} ran on survivors only.")
        if run.violations:
            text.append(f"{run.name}: {run.violations} records outside their threat model.")
        if run.flags is None:
            text.append(f"{run.name}: no sanity checks on record.")
        text += [f"{run.name}: {result.note}" for result in run.plan.results.values() if result.note]
    return [" ".join(text), *(line for run in runs for line in flag_lines(run))]


def _kinds(runs: Sequence[Run]) -> list[str]:
    """What distances, radii and conditional bounds are."""
    entries = {name: entry for run in runs for name, entry in run.plan.entries.items()}
    found = []
    if distances := [name for name, entry in entries.items() if entry.kind is Kind.MINIMUM_DISTANCE]:
        found.append(f"{', '.join(distances)}: share of examples without a wrong image found within the bound.")
    for name, entry in entries.items():
        if entry.kind is Kind.CERTIFICATE and entry.assumption is None:
            sure = "deterministic" if entry.confidence is None else f"confidence {100 * entry.confidence:g} % each"
            found.append(f"{name}: certified accuracy, {sure}.")
        elif entry.kind is Kind.CERTIFICATE:
            found.append(f"{name}: a conditional bound, which assumes that {entry.assumption}; not certified.")
    return found


def flag_lines(run: Run) -> list[str]:
    """One line per kind of raised flag: the cells it marks, what was measured, and what that means."""
    lines, raised = [], [flag for flag in run.flags_by_column if flag.raised]
    for (name, why), flags in groupby(sorted(raised, key=_kind), key=_kind):
        found = [(flag.attack or "all", f"{100 * flag.value:.3g} %", f"{100 * flag.threshold:.3g} %") for flag in flags]
        values = ", ".join(f"{attack} {value}" for attack, value, _ in found)
        lines.append(f"{MARK} {run.name}, {name}: {values}; expected at most {found[0][2]}: {why}.")
    return lines


def _kind(flag: Flag) -> tuple[str, str]:
    return flag.name, flag.explanation
