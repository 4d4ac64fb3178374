"""Overlaps of attacks: which attacks break the same examples, as in the paper's Venn figure.

An attack breaks an example if the classifier is right on the clean image and wrong on the attack's image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from gauntlet.evaluation.statistics.accuracy import check_same_examples


class Overlap(NamedTuple):
    """One area of the Venn figure."""

    attacks: tuple[str, ...]
    """In the order of the suite; empty for the examples that no attack breaks."""
    examples: int
    """Number of examples that exactly these attacks break."""


def broken(records: pl.DataFrame) -> pl.Series:
    """Return which examples an attack breaks, `[N]` booleans."""
    right_before = records["clean_prediction"] == records["label"]
    return (right_before & ~records["correct"]).alias("broken")


def overlaps(records: Mapping[str, pl.DataFrame]) -> list[Overlap]:
    """Return all non-empty areas, the largest first. Together they are the examples with a correct clean prediction.

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
    nonempty = []
    for *broken_by, count in areas.iter_rows():
        names = tuple(name for name, is_broken in zip(records, broken_by, strict=True) if is_broken)
        nonempty.append(Overlap(names, count))
    order = list(records)
    return sorted(nonempty, key=lambda area: (-area.examples, [order.index(name) for name in area.attacks]))


def coverage(areas: list[Overlap], by: str, of: str) -> float | None:
    """Return the share of the examples broken by attack `of` that `by` breaks too; None if `of` breaks none."""
    total = sum(area.examples for area in areas if of in area.attacks)
    both = sum(area.examples for area in areas if of in area.attacks and by in area.attacks)
    return both / total if total else None
