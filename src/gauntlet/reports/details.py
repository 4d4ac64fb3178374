"""Details of one run: distances of successful images, overlaps of attacks, sanity checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from gauntlet.evaluation.columns import ResultTable
from gauntlet.evaluation.flags import Flag
from gauntlet.evaluation.run import MARK, Run
from gauntlet.evaluation.statistics.distances import distance_statistics
from gauntlet.evaluation.statistics.overlap import overlaps
from gauntlet.reports.certified import certified_and_attacked
from gauntlet.reports.result_table import as_markdown

_AREAS = 12  # the largest, of up to 2ᴷ


def details(run: Run) -> str:
    """Return Markdown for the report of a run: certified beside attacked accuracy, distances, overlaps, checks.

    Raises:
        UserError: its attacks were measured on different examples.
    """
    parts = [_distances(run.searched)] if run.decides else []
    if beside := certified_and_attacked({run.name: run}):
        parts.insert(0, as_markdown(beside))
    if len(run.searched) > 1:
        parts.append(_areas(run.searched))
    if run.flags:
        parts.append(_checks(run.flags_by_column))
    return "\n".join(parts)


def _distances(records: Mapping[str, pl.DataFrame]) -> str:
    head = ["attack", "distance", "examples", "mean (95 % bootstrap)", "5 %", "25 %", "median", "75 %", "95 %"]
    rows = []
    for name, frame in records.items():
        for distance, examples, mean, low, high, *quantiles in distance_statistics(frame).iter_rows():
            interval = f"{mean:.3g} ({low:.3g}–{high:.3g})"
            rows.append([name, distance, str(examples), interval, *(f"{value:.3g}" for value in quantiles)])
    if not rows:
        return "No attack changed an answer.\n"
    return f"Distances of the images that fool it, with quantiles:\n\n{as_markdown(ResultTable(head, rows, ''))}"


def _areas(records: Mapping[str, pl.DataFrame]) -> str:
    areas = overlaps(records)
    total = sum(area.examples for area in areas)
    rows = [
        [", ".join(area.attacks) or "none of them", str(area.examples), f"{100 * area.examples / total:.1f}"]
        for area in areas[:_AREAS]
    ]
    omitted = len(areas) - len(rows)
    more = f"\n{omitted} smaller areas are left out.\n" if omitted else ""
    head = ["broken by exactly", "examples", "% of those right when clean"]
    return f"Which attacks break the same examples:\n\n{as_markdown(ResultTable(head, rows, ''))}{more}"


def _checks(flags: Sequence[Flag]) -> str:
    rows = [
        [flag.name, flag.attack or "all", f"{100 * flag.value:.3g}{MARK * flag.raised}", f"{100 * flag.threshold:.3g}"]
        for flag in flags
    ]
    explanations = {flag.name: flag.explanation for flag in flags}
    meaning = "".join(f"- {name}: {explanation}\n" for name, explanation in explanations.items())
    table = as_markdown(ResultTable(["check", "attack", "%", "at most %"], rows, ""))
    return f"Sanity checks:\n\n{table}\n{meaning}"
