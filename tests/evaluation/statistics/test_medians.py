"""Medians as order statistics: against the standard library, scipy, and the binomial counted out."""

import math
import statistics
from itertools import product

import polars as pl
import pytest
from scipy.stats import binomtest, quantile_test

from gauntlet.evaluation.statistics.medians import median


def ranks(count):
    """The ranks, from 1, of the interval's ends among so many numbers."""
    estimate = median(pl.Series(range(1, count + 1), dtype=pl.Float64), "L2")
    return int(estimate.low), int(estimate.high)


@pytest.mark.parametrize("count", range(6, 12))
def test_the_interval_covers_the_median_as_often_as_it_says_by_brute_force(count):
    """Each number is above or below the true median 0 with probability 1/2: every pattern is as likely."""
    covered = 0
    for signs in product((-1.0, 1.0), repeat=count):
        estimate = median(pl.Series([sign * rank for rank, sign in enumerate(signs, 1)]), "L2")
        covered += estimate.low <= 0 <= estimate.high
    assert covered >= 0.95 * 2**count


@pytest.mark.parametrize("count", [6, 7, 10, 20, 24, 100, 999])
def test_the_interval_is_the_narrowest_with_the_same_ranks_on_both_sides(count):
    low, high = ranks(count)
    assert low + high == count + 1

    def coverage(rank):
        return 1 - 2 * sum(math.comb(count, below) for below in range(rank)) / 2**count

    assert coverage(low) >= 0.95
    assert coverage(low + 1) < 0.95


@pytest.mark.parametrize("count", [8, 25, 60])
def test_the_interval_holds_the_values_that_scipys_exact_test_does_not_reject(count):
    numbers = [float(rank) for rank in range(1, count + 1)]
    low, high = ranks(count)
    for rank in numbers:
        # between two numbers so many lie below: the sign test, two-sided
        rejected = binomtest(int(rank), count).pvalue <= 0.05
        assert rejected == (not low <= rank + 0.5 <= high)
    interval = quantile_test(numbers, q=0, p=0.5).confidence_interval(0.95)
    assert (low, high) == (interval.low, interval.high)


@pytest.mark.parametrize("count", range(1, 6))
def test_of_fewer_than_six_examples_the_interval_is_all_of_them(count):
    assert ranks(count) == (1, count)


@pytest.mark.parametrize(
    "numbers",
    [
        [0.0, 0.0, 0.0, 0.0, 0.3, 0.5, math.inf],
        [0.0, 0.2, 0.4, math.inf, math.inf, math.inf, math.inf, math.inf],
        [math.inf] * 6,
        [0.5],
        [0.1, 0.7],
    ],
)
def test_0_and_inf_are_values_like_others(numbers):
    estimate = median(pl.Series(numbers[::-1]), "L2")
    assert estimate.value == statistics.median_low(numbers)
    assert estimate.low in numbers
    assert estimate.high in numbers
    assert estimate.low <= estimate.value <= estimate.high
    assert (estimate.examples, estimate.unit) == (len(numbers), "L2")


@pytest.mark.parametrize(("numbers", "message"), [([], "0 numbers"), ([1.0, math.nan], "1 of them NaN")])
def test_a_median_of_nothing_or_of_nan_is_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        median(pl.Series(numbers, dtype=pl.Float64), "L2")
