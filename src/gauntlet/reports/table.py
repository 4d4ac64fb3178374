"""The table of runs: runs as rows, entries and aggregates as columns, a 95 % interval in every cell."""

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
from gauntlet.reports.result_table import as_markdown, as_rich


def cell(value: Estimate | None, mark: str = "") -> str:
    """Return `61.5† (56.6–66.1)`, a share in percent; a dash if there is no number."""
    return "–" if value is None else f"{value.text}{mark} ({value.interval})"


def columns(runs: Sequence[Run]) -> list[str]:
    """Return all columns of all runs: aggregates first, then entries in order of first appearance."""
    names = dict.fromkeys(name for run in runs for name in run.cells)
    first = aggregates_of_their_own(runs)
    return sorted(names, key=lambda name: name not in first)


def aggregates_of_their_own(runs: Sequence[Run]) -> set[str]:
    """Return the columns of aggregates that replace no entries. The others are shown among the entries."""
    names: set[str] = set()
    replacing: set[str] = set()
    for run in runs:
        names |= run.aggregates.keys()
        for result in run.plan.results.values():
            if result.replaces:
                replacing |= result.columns.keys()
    return names - replacing


def column_text(run: Run, column: str) -> str:
    """Return a description of a column's number beyond its name: `0.5 L2`, `certified at 0.5 L2`."""
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
    """Return `0.5`, or `8/255` if the bound is a multiple of 1/255."""
    short, levels = f"{bound:.4g}", bound * 255
    if float(short) != bound and abs(levels - round(levels)) < 1e-6:
        return f"{round(levels)}/255"
    return short


def run_table(run: Run, title: str) -> Table:
    """Return one run for a terminal, with one row per entry."""
    return _lines(run, list(run.cells), title)


def run_tables(run: Run, title: str) -> list[Table]:
    """Return one run for a terminal: the tables that aggregates add, and a table of all other columns."""
    own = [result.table for result in run.plan.results.values() if result.table]
    if not own:
        return [run_table(run, title)]
    others = _beside_own_tables(run)
    # The notes are below the last table.
    last_caption = "" if others else "\n".join(notes([run]))
    tables = []
    for table in own:
        total = [len(table.rows) - 1]
        tables.append(as_rich(replace(table, caption=last_caption), title, total, total))
    return [*tables, _lines(run, others, title)] if others else tables


def _beside_own_tables(run: Run) -> list[str]:
    """Columns that no aggregate's own table shows; empty if all of them are transforms."""
    shown = {name for result in run.plan.results.values() if result.table for name in result.columns}
    others = [name for name in run.cells if name not in shown]
    transforms = [name for name, entry in run.plan.entries.items() if entry.kind is Kind.TRANSFORM]
    return [] if set(others) <= set(transforms) else others


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
            texts = ["survivors", ""]
        elif value is None:
            texts = ["–", ""]
        else:
            texts = [f"{value.text}{run.mark(name)}{_unit(value)}", value.interval]
        rows.append([name, column_text(run, name) if name in run.plan.entries else "", *texts])
    head = ["attack", "bound", "accuracy %" if run.decides else "score %", "95 % interval"]
    return as_rich(ResultTable(head, rows, "\n".join(notes([run]))), title, sections, bold)


def _unit(value: Estimate) -> str:
    return "" if value.unit == PERCENT else f" {value.unit}"


def run_markdown(run: Run) -> str:
    """Return one run under one suite as Markdown."""
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


def _members(run: Run) -> list[str]:
    """The members of the first union; one whose records answer for every bound with the bound that counts."""
    conjunction = next(column.conjunction for column in run.aggregates.values() if column.conjunction)
    words = []
    for name in run.union:
        entry = run.plan.entries[name]
        at = f"at {conjunction[name]:.4g} {entry.unit}" if entry.kind is Kind.MINIMUM_DISTANCE else ""
        words.append(f"{name} {at}".strip())
    return words


def notes(runs: Sequence[Run]) -> list[str]:
    """Return sentences that explain the numbers and warn where needed: a paragraph, then a line per raised flag."""
    counts = sorted({value.examples for run in runs for value in run.cells.values() if value})
    text = [f"{what}, {' / '.join(map(str, counts))} test examples." for what in _measures(runs)]
    text += sorted({f"Union of {', '.join(_members(run))}." for run in runs if run.union})
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
    text += [*_aggregate_notes(runs), *_means_over_runs(runs)]
    return [" ".join(text), *(line for run in runs for line in flag_lines(run))]


def _measures(runs: Sequence[Run]) -> list[str]:
    """What the columns of entries are: accuracies, or the mean scores of a task without a yes or no."""
    found = ["Accuracy in %, 95 % Wilson intervals"] if any(run.decides for run in runs) else []
    scored = dict.fromkeys(run.card.task for run in runs if not run.decides)
    return [*found, *(f"Mean score of {task} in %, 95 % bootstrap intervals" for task in scored)]


def _aggregate_notes(runs: Sequence[Run]) -> list[str]:
    """Notes of aggregates; a note that is the same for all runs is given once, the others with the name of the run."""
    by_run = {run.name: [result.note for result in run.plan.results.values() if result.note] for run in runs}
    distinct = dict.fromkeys(note for own in by_run.values() for note in own)
    shared = [note for note in distinct if all(note in own for own in by_run.values())]
    sentences = list(shared)
    for name, own in by_run.items():
        sentences += [f"{name}: {note}" for note in own if note not in shared]
    return sentences


def _means_over_runs(runs: Sequence[Run]) -> list[str]:
    """A sentence per aggregate that asks for the means of its columns over the runs; none for a single run."""
    means: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for result in run.plan.results.values():
            for name, column in result.columns.items() if result.mean_over_runs else ():
                if column.estimate is not None:
                    means.setdefault(result.mean_over_runs, {}).setdefault(name, []).append(column.estimate.value)
    sentences = []
    for label, columns in means.items():
        complete = {name: values for name, values in columns.items() if len(values) == len(runs)}
        if complete and len(runs) > 1:
            words = ", ".join(f"{name} {100 * sum(values) / len(values):.1f} %" for name, values in complete.items())
            sentences.append(f"{label} (mean over {len(runs)} runs): {words}.")
    return sentences


def _kinds(runs: Sequence[Run]) -> list[str]:
    """Sentences that explain distances, radii and conditional bounds."""
    entries = {name: entry for run in runs for name, entry in run.plan.entries.items()}
    sentences = []
    if distances := [name for name, entry in entries.items() if entry.kind is Kind.MINIMUM_DISTANCE]:
        sentences.append(f"{', '.join(distances)}: share of examples without a wrong image found within the bound.")
    for name, entry in entries.items():
        if entry.kind is Kind.CERTIFICATE and entry.assumption is None:
            sure = "deterministic" if entry.confidence is None else f"confidence {100 * entry.confidence:g} % each"
            sentences.append(f"{name}: certified accuracy, {sure}.")
        elif entry.kind is Kind.CERTIFICATE:
            sentences.append(f"{name}: a conditional bound, which assumes that {entry.assumption}; not certified.")
    return sentences


def flag_lines(run: Run) -> list[str]:
    """Return one line per kind of raised flag: the cells it marks, the measured values, and their meaning."""
    lines = []
    raised = [flag for flag in run.flags_by_column if flag.raised]
    for (name, explanation), group in groupby(sorted(raised, key=_kind), key=_kind):
        flags = list(group)
        values = ", ".join(f"{flag.attack or 'all'} {100 * flag.value:.3g} %" for flag in flags)
        threshold = f"{100 * flags[0].threshold:.3g} %"
        lines.append(f"{MARK} {run.name}, {name}: {values}; expected at most {threshold}: {explanation}.")
    return lines


def _kind(flag: Flag) -> tuple[str, str]:
    return flag.name, flag.explanation
