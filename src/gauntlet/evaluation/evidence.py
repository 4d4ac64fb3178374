"""The columns of records by kind of entry, and `holds_at`, on which all statistics are built."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from gauntlet.checks import TOLERANCE
from gauntlet.kinds import Kind

_COMMON: Mapping[str, type[pl.DataType]] = {
    "example_id": pl.Int64,
    "label": pl.Int64,
    "clean_prediction": pl.Int64,
    "prediction": pl.Int64,
    "correct": pl.Boolean,
    "seconds": pl.Float32,
}
_IMAGE: Mapping[str, type[pl.DataType]] = {
    "inside": pl.Boolean,
    "size": pl.Float32,
    "linf": pl.Float32,
    "l2": pl.Float32,
    "perceptual": pl.Float32,
    "lpips": pl.Float32,
    "margin": pl.Float32,
}
SCHEMAS: Mapping[Kind, Mapping[str, type[pl.DataType]]] = {
    Kind.ATTACK: {**_COMMON, **_IMAGE},
    Kind.MINIMUM_DISTANCE: {**_COMMON, **_IMAGE, "distance": pl.Float64},
    Kind.CERTIFICATE: {**_COMMON, "radius": pl.Float64, "abstained": pl.Boolean},
    Kind.TRANSFORM: {**_COMMON, **_IMAGE},
}
"""The columns of records, by kind; a certificate adds those that its proof counted.

`correct`: for an attack, the predictions of the clean and of the attack's image are right; for a transform, that of its
image is; for a certificate, the prediction is right and it did not abstain. `clean_prediction`: class of the clean
image. `inside`: the image lies in the threat model. `size`: share of the bound used; null for a minimum distance and a
transform, which depend on no bound. `linf`, `l2`, `perceptual` (the dataset's reference distance) and `lpips`: measured
from the two images alone. `margin`: the label's logit minus the largest other logit, on the attack's image. `distance`:
to the nearest misclassified image found, in the threat model's unit; 0 if the clean image is misclassified, inf if no
such image was found. `radius`: certified radius in the threat model's unit. `seconds`: the chunk's time divided by its
examples, the only column that differs between runs.
"""


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
        None for an attack if `bound` is not its own bound: its records do not determine the answer.
    """
    if kind is Kind.MINIMUM_DISTANCE:
        return (records["distance"] > bound * (1 + TOLERANCE)).alias("holds")
    if kind is Kind.CERTIFICATE:
        return (records["correct"] & ~records["abstained"] & (records["radius"] >= bound)).alias("holds")
    if kind is Kind.ATTACK and bound != own_bound:
        return None
    return records["correct"].alias("holds")
