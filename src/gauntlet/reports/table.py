"""Runs as rows, entries and aggregates as columns, a 95 % interval in every cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from rich.table import Table

from gauntlet.evaluation.columns import ResultTable
from gauntlet.evaluation.flags import Flag
from gauntlet.evaluation.run import MARK, Run
from gauntlet.evaluation.statistics.estimates import PERCENT, Estimate
from gauntlet.kinds import Kind
from gauntlet.reports.render.result_table import as_markdown, as_rich


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
    """One run for a terminal: an entry per line."""
    return _lines(run, list(run.cells), title)


def run_tables(run: Run, title: str) -> list[Table]:
    """One run for a terminal: the tables that aggregates bring, and the columns that these do not show."""
    own = [result.table for result in run.plan.results.values() if result.table]
    if not own:
        return [run_table(run, title)]
    rest = _beside_own_tables(run)
    last = "" if rest else "\n".join(notes([run]))
    tables = [
        as_rich(replace(table, caption=last), title, [len(table.rows) - 1], [len(table.rows) - 1]) for table in own
    ]
    return [*tables, _lines(run, rest, title)] if rest else tables


def _beside_own_tables(run: Run) -> list[str]:
    """The columns that no aggregate's own table shows; none where these are transforms alone."""
    shown = {name for result in run.plan.results.values() if result.table for name in result.columns}
    rest = [name for name in run.cells if name not in shown]
    entries = run.plan.entries
    return rest if any(name not in entries or entries[name].kind is not Kind.TRANSFORM for name in rest) else []


def _lines(run: Run, names: Sequence[str], title: str) -> Table:
    rows: list[list[str]] = []
    sections: list[int] = []
    bold: list[int] = []
    for name in names:
        value = run.cells[name]
        if name in run.aggregates and not sections:
            sections.append(len(rows))
        if name in run.aggregates and run.aggregates[name].conjunction:
            bold.append(len(rows))
        if name in run.survivors:
            shown = ["survivors", ""]
        else:
            shown = ["–", ""] if value is None else [f"{value.text}{run.mark(name)}{_unit(value)}", value.interval]
        rows.append([name, column_text(run, name) if name in run.plan.entries else "", *shown])
    head = ["attack", "bound", "accuracy %" if run.decides else "score %", "95 % interval"]
    return as_rich(ResultTable(head, rows, "\n".join(notes([run]))), title, sections, bold)


def _unit(value: Estimate) -> str:
    return "" if value.unit == PERCENT else f" {value.unit}"


def run_markdown(run: Run) -> str:
    """One run under one suite for a page."""
    own = [replace(result.table, caption="") for result in run.plan.results.values() if result.table]
    tables = [as_markdown(table) for table in own]
    names = [name for name in columns([run]) if not own or name in _beside_own_tables(run)]
    if names:
        tables.append(_row(run, names))
    return "\n".join(tables) + "\n" + "  \n".join(notes([run])) + "\n"


def _row(run: Run, names: Sequence[str]) -> str:
    head = ["run", *(f"{name} {column_text(run, name)}".strip() for name in names)]
    row = [run.name, *(cell(run.cells.get(name), run.mark(name)) for name in names)]
    return as_markdown(ResultTable(head, [row], ""))


def notes(runs: Sequence[Run]) -> list[str]:
    """What the numbers are, and what a reader must know before trusting them: a paragraph, then a line per flag."""
    counts = sorted({value.examples for run in runs for value in run.cells.values() if value})
    text = [f"{what}, {' / '.join(map(str, counts))} test examples." for what in _measures(runs)]
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
    text += _aggregate_notes(runs)
    return [" ".join(text), *(line for run in runs for line in flag_lines(run))]


def _measures(runs: Sequence[Run]) -> list[str]:
    """What the columns of entries are: accuracies, or the mean scores of a task without a yes or no."""
    found = ["Accuracy in %, 95 % Wilson intervals"] if any(run.decides for run in runs) else []
    scored = dict.fromkeys(run.card.task for run in runs if not run.decides)
    return [*found, *(f"Mean score of {task} in %, 95 % bootstrap intervals" for task in scored)]


def _aggregate_notes(runs: Sequence[Run]) -> list[str]:
    """What aggregates say of their columns: once where it is the same for all runs."""
    said = {run.name: [result.note for result in run.plan.results.values() if result.note] for run in runs}
    found = dict.fromkeys(note for own in said.values() for note in own)
    shared = [note for note in found if all(note in own for own in said.values())]
    return shared + [f"{name}: {note}" for name, own in said.items() for note in own if note not in shared]


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
