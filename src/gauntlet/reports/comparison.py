"""Two runs on the same examples: differences with intervals and McNemar's exact test, attack by attack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from gauntlet.errors import UserError
from gauntlet.evaluation.outcomes import read_outcomes
from gauntlet.evaluation.pairs import Paired, compare
from gauntlet.files import read_json
from gauntlet.reports.table import read_plan

_OF_THE_CHECKPOINT = {"checkpoint", "classifier"}  # in an identity; all the rest must be the same


def compare_runs(first: Path, second: Path, suite: str) -> dict[str, Paired]:
    """Two run folders under one suite.

    Raises:
        UserError: they were not both evaluated under it, with the same attacks on the same examples.
    """
    one, other = read_plan(first, suite), read_plan(second, suite)
    if one["union"] != other["union"]:
        raise UserError(f"{first} and {second} have other unions: {one['union']} and {other['union']}")
    places, others = _places(first, one), _places(second, other)
    for name in places.keys() & others.keys():
        _check_alike(name, read_json(places[name] / "identity.json"), read_json(others[name] / "identity.json"))
    return compare(_outcomes(places), _outcomes(others), one["union"])


def _places(folder: Path, plan: Mapping[str, Any]) -> dict[str, Path]:
    return {name: folder / entry["folder"] for name, entry in plan["attacks"].items()}


def _outcomes(places: Mapping[str, Path]) -> dict[str, pl.DataFrame]:
    return {name: read_outcomes(place) for name, place in places.items()}


def _check_alike(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    differ = sorted(key for key in {*one, *other} - _OF_THE_CHECKPOINT if one.get(key) != other.get(key))
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
        difference = f"{100 * pair.difference:+.1f} ({100 * pair.low:+.1f} to {100 * pair.high:+.1f})"
        p_value = f"{pair.p_value:.2g}" if pair.p_value >= 1e-4 else "< 0.0001"
        lines.append(f"| {name} | {difference} | {pair.only_first} | {pair.only_second} | {p_value} |")
    note = (
        "Accuracy points with a 95 % Bonett–Price interval; p of McNemar's exact test, not adjusted for several tests."
    )
    return "\n".join([*lines, "", note]) + "\n"
