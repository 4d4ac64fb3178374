"""Efron's bootstrap: an interval for the mean of numbers that are no shares, such as distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import torch

from gauntlet.evaluation.statistics.estimates import Estimate
from gauntlet.noise import Noise, mix

_BLOCK = 1 << 18  # draws held at once, so that they fit into the processor's cache


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
    values = torch.tensor([list(column) for column in columns], dtype=torch.float64)
    if values.numel() == 0:
        raise ValueError("a bootstrap of no examples: nothing was measured")
    if not values.isfinite().all():
        raise ValueError("a bootstrap of numbers that are not all finite: leave those examples out")
    count = values.shape[1]
    rows = [_resampled(values, mix(seed, block)) for block in torch.arange(resamples).split(max(1, _BLOCK // count))]
    low, high = torch.cat(rows, 1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=1)
    means = values.mean(1)
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
    values = []
    for one in range(resamples):
        drawn = (Noise(mix(seed, torch.tensor([one]))).uniform((1, count)).double() * count).long()[0]
        values.append(metric(records[drawn.numpy()]))
    low, high = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return Estimate(metric(records), low.item(), high.item(), count, "")


def _resampled(values: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """Return the means `[K, R]` of R resamples of `[K, N]` values."""
    count = values.shape[1]
    drawn = (Noise(seeds).uniform((len(seeds), count)).double() * count).long()
    times = torch.zeros(drawn.shape, dtype=values.dtype).scatter_add_(1, drawn, values.new_ones(()).expand_as(drawn))
    return values @ times.T / count
