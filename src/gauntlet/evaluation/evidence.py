"""What records say of an example, by kind of entry, and the one question that statistics ask of them."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from gauntlet.checks import TOLERANCE
from gauntlet.kinds import Kind
from gauntlet.task import CLASSIFICATION, Dtype, Task

_IMAGE: Mapping[str, Dtype] = {
    "inside": pl.Boolean,
    "size": pl.Float32,
    "linf": pl.Float32,
    "l2": pl.Float32,
    "perceptual": pl.Float32,
    "lpips": pl.Float32,
}


def schema(kind: Kind, task: Task) -> dict[str, Dtype]:
    """The columns of the records of a kind of entry in a task, in their order."""
    common = {"example_id": pl.Int64, **task.columns, "seconds": pl.Float32}
    if kind is Kind.CERTIFICATE:
        return {**common, "radius": pl.Float64, "abstained": pl.Boolean}
    of_images = {**common, **_IMAGE, **task.image_columns}
    return {**of_images, "distance": pl.Float64} if kind is Kind.MINIMUM_DISTANCE else of_images


SCHEMAS: Mapping[Kind, Mapping[str, Dtype]] = {kind: schema(kind, CLASSIFICATION) for kind in Kind}
"""The columns of records of classification, by kind; a certificate adds those that its proof counted.

`correct`: of an attack, right on the clean image and on the one found; of a transform, right on its image; of a
certificate, right and no abstention. `clean_prediction` is of the clean image. `inside`: the image is the threat
model's. `size`: share of the bound used; null of a minimum distance and of a transform, which depend on no bound.
`linf`, `l2`, `perceptual` (the dataset's reference distance) and `lpips` are measured from the two images alone.
`margin`: the label's logit minus the best other one, on the image that came back. `distance`: to the nearest image
found that is classified wrongly, in the threat model's unit; 0 where the clean image is wrong, inf where nothing was
found. `radius`: certified, in the threat model's unit.
`seconds`: the chunk's time shared out evenly, the one column that differs between runs.
"""


def decides(records: pl.DataFrame) -> bool:
    """Whether records have a yes or no per example, rather than a score alone."""
    return "correct" in records.columns


def holds_at(records: pl.DataFrame, kind: Kind, own_bound: float, bound: float) -> pl.Series | None:
    """Which examples are correct against every image within a bound, as far as these records tell, `[N]` booleans.

    An attack and a minimum distance bound that from above, a certificate from below. Rounding is on the safe side: a
    distance right at the bound, or beyond it by no more than the tolerance of `gauntlet.checks`, breaks the example; a
    radius right at the bound holds.

    Args:
        records: of one entry.
        kind: of the entry.
        own_bound: of the entry's threat model.
        bound: that is asked about, in the threat model's unit.

    Returns:
        None of an attack at another bound than its own, and of a task with scores alone: the records do not tell.
    """
    if not decides(records):
        return None
    if kind is Kind.MINIMUM_DISTANCE:
        return (records["distance"] > bound * (1 + TOLERANCE)).alias("holds")
    if kind is Kind.CERTIFICATE:
        return (records["correct"] & ~records["abstained"] & (records["radius"] >= bound)).alias("holds")
    if kind is Kind.ATTACK and bound != own_bound:
        return None
    return records["correct"].alias("holds")
