"""The columns of records by kind of entry, and `holds_at`: which examples are correct at a bound."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from gauntlet.kinds import Kind
from gauntlet.task import CLASSIFICATION, Dtype, Task
from gauntlet.tolerance import TOLERANCE

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

`correct`: for an attack, the predictions of the clean and of the attack's image are right; for a transform, that of its
image is; for a certificate, the prediction is right and it did not abstain. `clean_prediction`: class of the clean
image. `inside`: the image lies in the threat model. `size`: share of the bound used; null for a minimum distance and a
transform, which depend on no bound. `linf`, `l2`, `perceptual` (the dataset's reference distance) and `lpips`: measured
from the two images alone. `margin`: the label's logit minus the largest other logit, on the attack's image. `distance`:
to the nearest misclassified image found, in the threat model's unit; 0 if the clean image is misclassified, inf if no
such image was found. `radius`: certified radius in the threat model's unit. `seconds`: the chunk's time divided by its
examples, the only column that differs between runs.
"""


def decides(records: pl.DataFrame) -> bool:
    """Whether records have a yes or no per example, rather than a score alone."""
    return "correct" in records.columns


def holds_at(records: pl.DataFrame, kind: Kind, own_bound: float, bound: float) -> pl.Series | None:
    """Return which examples are correct within a bound according to these records, `[N]` booleans.

    Attacks and minimum distances give an upper bound on robustness, certificates a lower bound. Rounding is on the safe
    side: a distance at the bound, or above it by no more than the tolerance of `gauntlet.checks`, breaks the example; a
    radius at the bound holds.

    Args:
        records: records of one entry.
        kind: kind of the entry.
        own_bound: bound of the entry's threat model.
        bound: the bound in question, in the threat model's unit.

    Returns:
        None for an attack if `bound` is not its own bound, and for a task with scores alone: the records do not
        determine the answer.
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
