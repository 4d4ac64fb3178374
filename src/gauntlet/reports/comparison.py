"""Two runs on the same examples: differences with intervals and McNemar's exact test, attack by attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from gauntlet.errors import UserError
from gauntlet.evaluation.corruption_errors import wrong
from gauntlet.evaluation.measures import check_same_examples, standing
from gauntlet.evaluation.outcomes import read_outcomes
from gauntlet.evaluation.pairs import Paired, compare, paired
from gauntlet.files import read_json
from gauntlet.reports.corrupted import by_type
from gauntlet.reports.runs import OF_THE_CHECKPOINT
from gauntlet.reports.table import of_everybody, read_card, read_plan

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


def compare_all(folders: Sequence[Path], against: Path, suite: str) -> list[Comparison]:
    """Every other run against one of them, on the same examples.

    Args:
        folders: of runs.
        against: the one that the others are compared with, wherever it lies.
        suite: under which all of them were evaluated.
    """
    baseline, found = read_card(against)["name"], []
    for folder in (folder for folder in folders if folder.absolute() != against.absolute()):
        name = read_card(folder)["name"]
        try:
            found.append(Comparison(name, baseline, compare_runs(folder, against, suite)))
        except UserError as error:
            found.append(Comparison(name, baseline, {}, str(error)))
    return found


def compare_runs(first: Path, second: Path, suite: str) -> dict[str, Paired]:
    """Two run folders under one suite. Attacks that ran on survivors only are compared in the union alone.

    Raises:
        UserError: they were not both evaluated under it, with the same attacks on the same examples.
    """
    one, other = read_plan(first, suite), read_plan(second, suite)
    if one["union"] != other["union"]:
        raise UserError(f"{first} and {second} have other unions: {one['union']} and {other['union']}")
    places, others = _places(first, one), _places(second, other)
    for name in places.keys() & others.keys():
        _check_alike(name, read_json(places[name] / "identity.json"), read_json(others[name] / "identity.json"))
    records = (_outcomes(places, one), _outcomes(others, other))
    whole = [name for name in places if not one["attacks"][name].get("survivors_of")]
    mine, theirs = ({name: frames[name] for name in whole if name in frames} for frames in records)
    found = compare(mine, theirs, one["union"])
    if set(one["union"]) - set(whole):
        check_same_examples([frames[one["union"][-1]] for frames in records])
        found["union"] = paired(*(standing([frames[name] for name in one["union"]]) for frames in records))
    return found


def _places(folder: Path, plan: Mapping[str, Any]) -> dict[str, Path]:
    return {name: folder / entry["folder"] for name, entry in plan["attacks"].items()}


def _outcomes(places: Mapping[str, Path], plan: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """By attack; of a corruption every right answer counts, whatever the one to the clean image was."""
    found = of_everybody({name: read_outcomes(place) for name, place in places.items()}, plan)
    corruptions = [name for names in by_type(plan).values() for name in names]
    return found | {name: found[name].with_columns(robust=~wrong(found[name])) for name in corruptions}


def _check_alike(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    differ = sorted(key for key in {*one, *other} - OF_THE_CHECKPOINT if one.get(key) != other.get(key))
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
