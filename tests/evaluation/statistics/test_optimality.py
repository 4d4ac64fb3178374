"""Local optimality against areas under curves, and against the trapezoids of AttackBench."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.evaluation.statistics.optimality import local_optimality, nearest_of

distance = st.one_of(st.floats(0.01, 4.0), st.just(math.inf))
rows = st.lists(st.tuples(st.booleans(), distance, distance), min_size=2, max_size=30)


def columns(table):
    one = pl.Series([0.0 if wrong else first for wrong, first, _ in table])
    two = pl.Series([0.0 if wrong else second for wrong, _, second in table])
    return one, two, nearest_of([one, two])


@settings(deadline=None, max_examples=50)
@given(rows)
def test_it_is_the_ratio_of_areas_between_clean_accuracy_and_the_curves(table):
    one, _, nearest = columns(table)
    estimate = local_optimality(one, nearest)
    finite = [value for value in nearest if 0 < value < math.inf]
    if len(set(finite)) < 2:
        assert estimate is None
        return
    at = (np.arange(20000) + 0.5) / 20000 * max(finite)
    clean = (nearest.to_numpy() > 0).mean()
    own, best = (np.mean([clean - (curve.to_numpy() > bound).mean() for bound in at]) for curve in (one, nearest))
    assert estimate.value == pytest.approx(own / best, abs=2e-3 / best)
    assert 0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1


def test_it_is_attackbenchs_number_up_to_their_trapezoids():
    generator = np.random.default_rng(0)
    nearest = generator.gamma(2.0, 0.5, 4000)
    nearest[:400] = 0.0
    own = nearest * (1 + generator.gamma(1.0, 0.2, 4000))
    farthest, clean = nearest.max(), (nearest > 0).mean()

    def area(distances):
        values, counts = np.unique(distances.clip(max=farthest), return_counts=True)
        return np.trapezoid(1 - counts.cumsum() / len(distances), values)

    theirs = 1 - (area(own) - area(nearest)) / (clean * farthest - area(nearest))
    assert local_optimality(pl.Series(own), pl.Series(nearest)).value == pytest.approx(theirs, abs=1e-3)


def test_the_nearest_everywhere_is_1_and_nothing_found_is_0():
    nearest = pl.Series([0.0, 0.5, 1.0, 2.0, math.inf])
    best = local_optimality(nearest, nearest)
    assert (best.value, best.low, best.high, best.unit) == (1.0, 1.0, 1.0, "%")
    nothing = pl.Series([0.0] + [math.inf] * 4)
    assert local_optimality(nothing, nearest).value == 0.0


def test_an_example_that_no_attack_breaks_counts_for_nothing():
    one, nearest = pl.Series([1.0, 1.5, 3.0]), pl.Series([1.0, 1.0, 3.0])
    unbroken = pl.Series([math.inf])
    alone = local_optimality(one, nearest).value
    assert local_optimality(one.append(unbroken), nearest.append(unbroken)).value == alone
