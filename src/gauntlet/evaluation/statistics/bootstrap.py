"""Efron's bootstrap: an interval for the mean of numbers that are no shares, such as distances.

The interval is that of `scipy.stats.bootstrap(method="percentile")`, which is not used: it holds every resample of
every column where this needs a product of matrices (a tenth of the time for twenty columns), and its draws depend on
the version of numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.hashing import GOLDEN, finalise, mix_into, shift_right

_BLOCK = 1 << 18  # draws held at once, so that they fit into the processor's cache
_SHARES = (0.025, 0.975)


def bootstrap_means(columns: Sequence[Sequence[float]], seed: int = 0, resamples: int = 1000) -> list[Estimate]:
    """Return the means of several columns of the same examples, with percentile intervals.

    Examples are resampled with replacement, the same ones for all columns (Efron, "Bootstrap methods: another
    look at the jackknife", Annals of Statistics 1979; percentile interval).

    Args:
        columns: `[K][N]` finite numbers.
        seed: seed of the draws; equal numbers and seeds give the same interval up to the last digits on any machine.
        resamples: number of resamples.

    Raises:
        ValueError: no examples, or numbers that are not finite.
    """
    values = np.array([list(column) for column in columns], dtype=np.float64)
    if not values.size:
        raise ValueError("a bootstrap of no examples: nothing was measured")
    if not np.isfinite(values).all():
        raise ValueError("a bootstrap of numbers that are not all finite: leave those examples out")
    count = values.shape[1]
    step = max(1, _BLOCK // count)
    blocks = [np.arange(first, min(first + step, resamples)) for first in range(0, resamples, step)]
    drawn = np.concatenate([values @ _times_drawn(seed, block, count).T / count for block in blocks], axis=1)
    low, high = np.quantile(drawn, _SHARES, axis=1)
    means = values.mean(axis=1)
    return [Estimate(*numbers, count, "") for numbers in zip(means.tolist(), low.tolist(), high.tolist(), strict=True)]


def bootstrap_metric(
    records: pl.DataFrame, metric: Callable[[pl.DataFrame], float], seed: int = 0, resamples: int = 200
) -> Estimate:
    """Any number that records come to, with a percentile interval: examples are drawn again as in `bootstrap_means`.

    Args:
        records: of N > 0 examples.
        metric: from records to the number.
        seed: of the draws.
        resamples: how often the number is computed.
    """
    count = len(records)
    values = [metric(records[rows]) for one in range(resamples) for rows in _rows(seed, np.array([one]), count)]
    low, high = np.quantile(values, _SHARES).tolist()
    return Estimate(metric(records), low, high, count, "")


def _times_drawn(seed: int, resamples: np.ndarray, count: int) -> np.ndarray:
    """Return how often each of `count` examples is in each of R resamples, `[R, N]`."""
    rows = _rows(seed, resamples, count) + count * np.arange(len(resamples))[:, None]
    return np.bincount(rows.ravel(), minlength=count * len(resamples)).reshape(len(resamples), count)


def _rows(seed: int, resamples: np.ndarray, count: int) -> np.ndarray:
    """Return the examples of R resamples, `[R, N]`: the draws of `gauntlet.noise`, without torch."""
    zero = np.zeros(1, np.int64)
    key = mix_into(zero, mix_into(zero, seed, resamples), 0)
    words = finalise(key[:, None] + (np.arange(count) + 1) * GOLDEN)
    return shift_right(words, 40) * count >> 24  # 24 random bits for each draw
