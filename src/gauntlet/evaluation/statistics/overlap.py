"""Which attacks break the same examples: the numbers of the paper's Venn figure.

An attack breaks an example that the classifier gets right on the clean image and wrong on the attack's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from gauntlet.evaluation.statistics.accuracy import check_same_examples


class Overlap(NamedTuple):
    """One area of the figure."""

    attacks: tuple[str, ...]
    """In the order of the suite; empty for the examples that nobody breaks."""
    examples: int
    """How many examples exactly these attacks break."""


def broken(records: pl.DataFrame) -> pl.Series:
    """Which examples an attack breaks, `[N]` booleans."""
    right_before = records["clean_prediction"] == records["label"]
    return (right_before & ~records["correct"]).alias("broken")


def overlaps(records: Mapping[str, pl.DataFrame]) -> list[Overlap]:
    """Every area that is not empty, the largest first; together they are the examples that were right before.

    Args:
        records: by attack, of the same examples.

    Raises:
        UserError: they are of different examples.
    """
    frames = list(records.values())
    check_same_examples(frames)
    right_before = frames[0]["clean_prediction"] == frames[0]["label"]
    table = pl.DataFrame({name: broken(frame) for name, frame in records.items()}).filter(right_before)
    areas = table.group_by(pl.all()).len("area of so many examples")
    found = [
        Overlap(tuple(name for name, hit in zip(records, row[:-1], strict=True) if hit), row[-1])
        for row in areas.iter_rows()
    ]
    order = list(records)
    return sorted(found, key=lambda area: (-area.examples, [order.index(name) for name in area.attacks]))


def coverage(areas: list[Overlap], by: str, of: str) -> float | None:
    """The share of the examples which one attack breaks that another one breaks too; None where it breaks none."""
    total = sum(area.examples for area in areas if of in area.attacks)
    both = sum(area.examples for area in areas if of in area.attacks and by in area.attacks)
    return both / total if total else None
