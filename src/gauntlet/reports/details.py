"""What lies behind one run's row: how far successful images are, which attacks break the same ones, every check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from gauntlet.evaluation.changes import distance_statistics
from gauntlet.evaluation.flags import Flag, read_flags
from gauntlet.evaluation.outcomes import read_outcomes
from gauntlet.evaluation.overlap import overlaps
from gauntlet.reports.table import MARK, read_plan

_AREAS = 12  # the largest, of up to 2ᴷ


def details(folder: Path, suite: str) -> str:
    """Markdown for the report of a run.

    Raises:
        UserError: the run was not evaluated under the suite, or its attacks have different examples still.
    """
    plan = read_plan(folder, suite)
    outcomes = {name: read_outcomes(folder / entry["folder"]) for name, entry in plan["attacks"].items()}
    parts = [_distances(outcomes), _areas(outcomes)]
    flags = read_flags(folder, suite, plan["checkpoint"])
    return "\n".join([*parts, _checks(flags)] if flags else parts)


def _distances(outcomes: Mapping[str, pl.DataFrame]) -> str:
    head = ["attack", "distance", "examples", "mean (95 % bootstrap)", "5 %", "25 %", "median", "75 %", "95 %"]
    rows = [
        [name, row[0], str(row[1]), f"{row[2]:.3g} ({row[3]:.3g}–{row[4]:.3g})", *(f"{x:.3g}" for x in row[5:])]
        for name, frame in outcomes.items()
        for row in distance_statistics(frame).iter_rows()
    ]
    if not rows:
        return "No attack changed an answer.\n"
    return f"Distances of the images that fool it, with quantiles:\n\n{_markdown(head, rows)}"


def _areas(outcomes: Mapping[str, pl.DataFrame]) -> str:
    areas = overlaps(outcomes)
    total = sum(area.examples for area in areas)
    rows = [
        [", ".join(area.attacks) or "none of them", str(area.examples), f"{100 * area.examples / total:.1f}"]
        for area in areas[:_AREAS]
    ]
    rest = len(areas) - len(rows)
    more = f"\n{rest} smaller areas are left out.\n" if rest else ""
    head = ["broken by exactly", "examples", "% of those right when clean"]
    return f"Which attacks break the same examples:\n\n{_markdown(head, rows)}{more}"


def _checks(flags: Sequence[Flag]) -> str:
    rows = [
        [flag.name, flag.attack or "all", f"{100 * flag.value:.3g}{MARK * flag.raised}", f"{100 * flag.threshold:.3g}"]
        for flag in flags
    ]
    meaning = "".join(f"- {name}: {why}\n" for name, why in {flag.name: flag.explanation for flag in flags}.items())
    return f"Sanity checks:\n\n{_markdown(['check', 'attack', '%', 'at most %'], rows)}\n{meaning}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---" if i == 0 else "--:" for i in range(len(head))], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
