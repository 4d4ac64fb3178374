"""Compare two runs on the same examples, attack by attack: differences with intervals and McNemar's exact test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from gauntlet.errors import UserError
from gauntlet.evaluation.columns import ResultTable
from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.accuracy import check_same_examples
from gauntlet.evaluation.statistics.paired_tests import Paired, paired
from gauntlet.reports.result_table import as_markdown, as_rich

_NARROWEST = 76  # characters, so that the title and the notes keep their width where there are few columns
_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True)
class Comparison:
    """The comparison of one run with another."""

    run: str
    against: str
    pairs: Mapping[str, Paired]
    """By attack, and for the union: positive where `run` has the higher accuracy. Empty if they cannot be compared."""
    reason: str = ""
    """Why the runs cannot be compared."""


def compare_all(runs: Sequence[Run], against: Run) -> list[Comparison]:
    """Compare every other run with one of them, on the same examples.

    Args:
        runs: runs under one suite.
        against: the run that the others are compared with; it need not be one of them.
    """
    comparisons = []
    for run in runs:
        if run.folder.absolute() == against.folder.absolute():
            continue
        try:
            comparisons.append(Comparison(run.name, against.name, compare_runs(run, against)))
        except UserError as error:
            comparisons.append(Comparison(run.name, against.name, {}, str(error)))
    return comparisons


def compare_runs(first: Run, second: Run) -> dict[str, Paired]:
    """Compare two runs under one suite, column by column. Attacks on survivors are compared in the union alone.

    Raises:
        UserError: the unions differ, or the runs were not measured alike, on the same examples.
    """
    if list(first.union) != list(second.union):
        raise UserError(f"{first.folder} and {second.folder} have other unions: {first.union} and {second.union}")
    for name in first.identities.keys() & second.identities.keys():
        _check_alike(name, first.condition(name), second.condition(name))
    pairs: dict[str, Paired] = {}
    for column in first.cells:
        if column not in second.cells:
            continue
        one, other = first.correct(column), second.correct(column)
        if one is not None and other is not None:
            _check_bounds(column, first, second)
            _check_examples(column, first, second)
            pairs[column] = paired(one, other)
    if not pairs:
        raise UserError(f"no attack in common: {sorted(first.cells)} and {sorted(second.cells)}")
    return pairs


def _check_bounds(column: str, first: Run, second: Run) -> None:
    """Distances and radii answer for every bound, so that records alone do not say at which one a column is."""
    one, other = first.bounds(column), second.bounds(column)
    for name in one:
        if one[name] != other[name]:
            raise UserError(
                f"{column}: {name} is at {one[name]:.4g} in {first.folder} and at {other[name]:.4g} in"
                f" {second.folder}: evaluate both at the same bounds"
            )


def _check_examples(column: str, first: Run, second: Run) -> None:
    name = next(iter(first.members(column)))
    one, other = first.of_all[name], second.of_all[name]
    check_same_examples([one, other])
    if "label" in one.columns and "label" in other.columns and not one["label"].equals(other["label"]):
        raise UserError(f"{column}: the two classifiers were measured on examples with different labels")


def _check_alike(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    differ = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
    if differ:
        raise UserError(
            f"{name} was not measured alike, the two runs differ in {', '.join(differ)}: evaluate both with the same"
            f" suite, examples and seed"
        )


def comparison_table(pairs: Mapping[str, Paired], first: str, second: str) -> str:
    """Return Markdown with one row per attack; differences are in percentage points."""
    rows = []
    for name, pair in pairs.items():
        difference = f"{100 * pair.difference:+.1f} ({_interval(pair)})"
        p_value = f"{pair.p_value:.2g}" if pair.p_value >= 1e-4 else "< 0.0001"
        rows.append([name, difference, str(pair.only_first), str(pair.only_second), p_value])
    table = ResultTable(["attack", "difference", "only first", "only second", "p"], rows, _NOTE)
    examples = next(iter(pairs.values())).examples
    return f"{first} against {second}, {examples} test examples.\n\n{as_markdown(table)}"


_NOTE = "Accuracy points with a 95 % Bonett–Price interval; p of McNemar's exact test, not adjusted for several tests."


def comparisons_table(comparisons: Sequence[Comparison], title: str) -> Table:
    """Return a table for a terminal. Rows are attacks or runs, whichever are more."""
    stars = ", ".join(f"{mark} p < {level:g}" for level, mark in reversed(_STARS))
    compared = [one for one in comparisons if one.pairs]
    reasons = [_reason(one) for one in comparisons if not one.pairs]
    caption = "\n".join([f"{_NOTE} {stars}.", *reasons])
    attacks = list(dict.fromkeys(name for one in compared for name in one.pairs))
    attacks_as_rows = len(attacks) > len(compared)
    head, rows = _by_attack(compared, attacks) if attacks_as_rows else _by_run(compared, attacks)
    table = ResultTable(head, rows, caption)
    return as_rich(table, title, lines=not attacks_as_rows, min_width=_NARROWEST)


def _by_attack(compared: Sequence[Comparison], attacks: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The head and rows with one attack per row."""
    rows = [[name, *(_cell(one.pairs.get(name), "  ") for one in compared)] for name in attacks]
    return ["attack", *map(_run_name, compared)], rows


def _by_run(compared: Sequence[Comparison], attacks: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The head and rows with one run per row."""
    rows = [[_run_name(one), *(_cell(one.pairs.get(name), "\n") for name in attacks)] for one in compared]
    return ["run", *attacks], rows


def _run_name(comparison: Comparison) -> str:
    """The name of the run, a line for each part."""
    return comparison.run.replace("/", "\n")


def comparisons_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return Markdown with one table per run."""
    parts = [
        comparison_table(one.pairs, one.run, one.against) if one.pairs else f"{_reason(one)}\n" for one in comparisons
    ]
    return "\n".join(parts)


def _reason(comparison: Comparison) -> str:
    return f"{comparison.run} is not compared: {comparison.reason}"


def _cell(pair: Paired | None, separator: str) -> str:
    if pair is None:
        return "–"
    star = next((mark for level, mark in _STARS if pair.p_value < level), "")
    return f"{100 * pair.difference:+.1f}{star}{separator}{_interval(pair)}"


def _interval(pair: Paired) -> str:
    return f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}"
