"""Distances between clean images and the images of successful attacks."""

from __future__ import annotations

import polars as pl

from gauntlet.evaluation.statistics.bootstrap import bootstrap_means
from gauntlet.evaluation.statistics.overlap import broken

DISTANCES = ("linf", "l2", "perceptual", "lpips", "size", "distance")
"""The columns of records with distances; `size` is a share of the bound."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_SCHEMA = {
    "distance": pl.String,
    "examples": pl.Int64,
    **dict.fromkeys(("mean", "low", "high", *(f"q{round(100 * share):02d}" for share in QUANTILES)), pl.Float64),
}


def distance_statistics(records: pl.DataFrame) -> pl.DataFrame:
    """Return one row per distance, over the examples that the attack breaks; distances not measured are left out.

    Columns: `distance`, `examples`, `mean` with its 95 % bootstrap interval `low` to `high`, and the quantiles `q05`,
    `q25`, `q50`, `q75`, `q95` (linearly interpolated). An attack that breaks nothing has no rows.
    """
    successful = records.filter(broken(records))
    if not len(successful):
        return pl.DataFrame(schema=_SCHEMA)
    columns = [name for name in DISTANCES if name in records.columns]
    measured = [name for name in columns if successful[name].null_count() == 0]
    if not measured:
        return pl.DataFrame(schema=_SCHEMA)
    values = {name: successful[name].cast(pl.Float64) for name in measured}
    means = bootstrap_means([column.to_list() for column in values.values()])
    rows = [
        [name, mean.examples, mean.value, mean.low, mean.high, *(column.quantile(q, "linear") for q in QUANTILES)]
        for (name, column), mean in zip(values.items(), means, strict=True)
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")
