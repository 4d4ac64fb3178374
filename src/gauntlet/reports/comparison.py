"""Two runs on the same examples: differences with intervals and McNemar's exact test, attack by attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from gauntlet.errors import UserError
from gauntlet.evaluation.run import Run
from gauntlet.evaluation.statistics.accuracy import check_same_examples
from gauntlet.evaluation.statistics.paired_tests import Paired, paired

_NARROWEST = 76  # characters, so that a title and the notes are not squeezed into a column or two
_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True)
class Comparison:
    """One run against another."""

    run: str
    against: str
    pairs: Mapping[str, Paired]
    """By attack, and of the union: positive where the run is right more often. Empty where nothing can be compared."""
    reason: str = ""
    """Why not."""


def compare_all(runs: Sequence[Run], against: Run) -> list[Comparison]:
    """Every other run against one of them, on the same examples.

    Args:
        runs: under one suite.
        against: the one that the others are compared with, wherever it lies.
    """
    found = []
    for run in runs:
        if run.folder.absolute() == against.folder.absolute():
            continue
        try:
            found.append(Comparison(run.name, against.name, compare_runs(run, against)))
        except UserError as error:
            found.append(Comparison(run.name, against.name, {}, str(error)))
    return found


def compare_runs(first: Run, second: Run) -> dict[str, Paired]:
    """Two runs under one suite, column by column; attacks that ran on survivors only count in the union alone.

    Raises:
        UserError: they have other unions, or were not measured alike, on the same examples.
    """
    if list(first.union) != list(second.union):
        raise UserError(f"{first.folder} and {second.folder} have other unions: {first.union} and {second.union}")
    for name in first.identities.keys() & second.identities.keys():
        _check_alike(name, first.condition(name), second.condition(name))
    found: dict[str, Paired] = {}
    for column in first.cells:
        if column not in second.cells:
            continue
        one, other = first.correct(column), second.correct(column)
        if one is not None and other is not None:
            _check_examples(column, first, second)
            found[column] = paired(one, other)
    if not found:
        raise UserError(f"no attack in common: {sorted(first.cells)} and {sorted(second.cells)}")
    return found


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
    """Markdown: an attack per row; differences in percentage points."""
    lines = [
        f"{first} against {second}, {next(iter(pairs.values())).examples} test examples.\n",
        "| attack | difference | only first | only second | p |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, pair in pairs.items():
        difference = f"{100 * pair.difference:+.1f} ({_interval(pair)})"
        p_value = f"{pair.p_value:.2g}" if pair.p_value >= 1e-4 else "< 0.0001"
        lines.append(f"| {name} | {difference} | {pair.only_first} | {pair.only_second} | {p_value} |")
    return "\n".join([*lines, "", _NOTE]) + "\n"


_NOTE = "Accuracy points with a 95 % Bonett–Price interval; p of McNemar's exact test, not adjusted for several tests."


def comparisons_table(found: Sequence[Comparison], title: str) -> Table:
    """For a terminal: runs and attacks, whichever are more below each other."""
    stars = ", ".join(f"{mark} p < {level:g}" for level, mark in reversed(_STARS))
    compared = [one for one in found if one.pairs]
    reasons = [f"{one.run} is not compared: {one.reason}" for one in found if not one.pairs]
    said = "\n".join([f"{_NOTE} {stars}.", *reasons])
    runs = [one.run.replace("/", "\n") for one in compared]
    attacks = list(dict.fromkeys(name for one in compared for name in one.pairs))
    upright = len(attacks) > len(runs)
    columns, rows, between = (runs, attacks, "  ") if upright else (attacks, runs, "\n")
    cells = [[_cell(one.pairs.get(name), between) for name in attacks] for one in compared]
    table = Table(title=title, caption=said, show_lines=not upright, min_width=_NARROWEST)
    table.title_justify = table.caption_justify = "left"
    table.add_column("attack" if upright else "run", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row, values in zip(rows, zip(*cells, strict=True) if upright else cells, strict=True):
        table.add_row(row, *values)
    return table


def comparisons_markdown(found: Sequence[Comparison]) -> str:
    """For a page: a table per run."""
    return "\n".join(
        comparison_table(one.pairs, one.run, one.against) if one.pairs else f"{one.run} is not compared: {one.reason}\n"
        for one in found
    )


def _cell(pair: Paired | None, between: str) -> str:
    if pair is None:
        return "–"
    star = next((mark for level, mark in _STARS if pair.p_value < level), "")
    return f"{100 * pair.difference:+.1f}{star}{between}{_interval(pair)}"


def _interval(pair: Paired) -> str:
    return f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}"
