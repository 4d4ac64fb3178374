"""A median as an order statistic, with its exact binomial interval."""

from __future__ import annotations

from functools import cache

import polars as pl

from gauntlet.evaluation.statistics.estimates import Estimate


def median(column: pl.Series, unit: str) -> Estimate:
    """Return the lower median of `[N]` numbers, which may be inf, with a distribution-free 95 % interval.

    The interval runs from the k-th smallest to the k-th largest number, with the largest k for which at most 2.5 % of
    Binomial(N, 1/2) lies below k on either side: for any distribution it covers the median with at least 95 %
    (David and Nagaraja, Order Statistics, 2003, §7.1). Below six examples the interval covers all numbers.

    Raises:
        ValueError: no examples, or NaN.
    """
    count = len(column)
    if not count or column.is_nan().any():
        raise ValueError(f"a median of {count} numbers, {int(column.is_nan().sum())} of them NaN: expected numbers")
    ordered = column.sort().to_list()
    rank = _rank(count)
    return Estimate(ordered[(count - 1) // 2], ordered[rank], ordered[count - 1 - rank], count, unit)


@cache
def _rank(count: int) -> int:
    """Return the index, from 0, of the k-th smallest of so many numbers."""
    from scipy.stats import binom  # slow to import, and not needed for reports

    return max(0, int(binom.ppf(0.025, count, 0.5)) - 1)
