"""Optimality of minimum-distance attacks (Cinà et al., "AttackBench", AAAI 2025).

Robust accuracy against distance is a step function, so that areas under it are sums. Let ε₀ be the distance at which
the example-wise minimum d* over all attacks has broken everything, and A(d) the area between clean accuracy and the
curve of distances d, from 0 to ε₀:

    A(d) = Σᵢ [ε₀ − min(dᵢ, ε₀)] / N over the examples with dᵢ* > 0        local optimality of an attack = A(d) / A(d*)

It is 1 for an attack that is nearest everywhere, and 0 for one that finds nothing. AttackBench integrates the curve by
trapezoids; the step function is exact. The global optimality of an attack is its mean over classifiers.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gauntlet.evaluation.statistics.bootstrap import bootstrap_metric
from gauntlet.evaluation.statistics.estimates import PERCENT, Estimate


def nearest_of(distances: Sequence[pl.Series]) -> pl.Series:
    """Return the element-wise minimum of columns of `[N]` distances."""
    return pl.DataFrame([column.alias(str(index)) for index, column in enumerate(distances)]).min_horizontal()


def local_optimality(distances: pl.Series, nearest: pl.Series) -> Estimate | None:
    """Return the local optimality of an attack, a share, with the bootstrap's interval.

    Examples that no attack breaks count neither for nor against an attack.

    Args:
        distances: `[N]`, of the attack; 0 where the clean image is misclassified, inf where nothing was found.
        nearest: `[N]`, the minimum over all attacks, at most `distances`.

    Returns:
        None if all broken examples have one and the same distance, or there are none: the areas are empty.
    """
    broken = nearest.filter(nearest.is_finite() & (nearest > 0))
    if not len(broken) or broken.min() == broken.max():
        return None
    farthest: float = broken.max()  # type: ignore[assignment]
    frame = pl.DataFrame({"own": _above(distances, nearest, farthest), "best": _above(nearest, nearest, farthest)})
    return bootstrap_metric(frame, _ratio)._replace(unit=PERCENT)


def _above(distances: pl.Series, nearest: pl.Series, farthest: float) -> pl.Series:
    """The area of each example between clean accuracy and the curve, `[N]`."""
    area = farthest - distances.clip(0, farthest)
    return pl.select(pl.when(nearest > 0).then(area).otherwise(0.0)).to_series()


def _ratio(frame: pl.DataFrame) -> float:
    """The ratio of the areas; 1 in a resample in which there is nothing to gain."""
    own, best = float(frame["own"].sum()), float(frame["best"].sum())
    return own / best if best > 0 else 1.0
