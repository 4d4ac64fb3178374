"""What records say of an example, by kind of entry, and the one question that statistics ask of them."""

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

`correct`: of an attack, right on the clean image and on the one found; of a transform, right on its image; of a
certificate, right and no abstention. `clean_prediction` is of the clean image. `inside`: the image is the threat
model's. `size`: share of the bound used; null of a minimum distance and of a transform, which depend on no bound.
`linf`, `l2`, `perceptual` (the dataset's reference distance) and `lpips` are measured from the two images alone.
`margin`: the label's logit minus the best other one, on the image that came back. `distance`: to the nearest image
found that is classified wrongly, in the threat model's unit; 0 where the clean image is wrong, inf where nothing was
found. `radius`: certified, in the threat model's unit.
`seconds`: the chunk's time shared out evenly, the one column that differs between runs.
"""


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
        None of an attack at another bound than its own: its records do not tell.
    """
    if kind is Kind.MINIMUM_DISTANCE:
        return (records["distance"] > bound * (1 + TOLERANCE)).alias("holds")
    if kind is Kind.CERTIFICATE:
        return (records["correct"] & ~records["abstained"] & (records["radius"] >= bound)).alias("holds")
    if kind is Kind.ATTACK and bound != own_bound:
        return None
    return records["correct"].alias("holds")
