"""Paired comparisons against statsmodels, a published example and simulated coverage."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as theirs

from gauntlet.errors import UserError
from gauntlet.evaluation import compare, mcnemar, paired

counts = st.integers(0, 400)


def booleans(both, only_first, only_second, neither=0):
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return pl.Series(first, dtype=pl.Boolean), pl.Series(second, dtype=pl.Boolean)


@settings(deadline=None)
@given(counts, counts)
def test_mcnemars_p_value_is_that_of_statsmodels(only_first, only_second):
    expected = theirs([[7, only_first], [only_second, 3]], exact=True).pvalue
    assert mcnemar(only_first, only_second) == pytest.approx(expected, rel=1e-9)


def test_mcnemars_p_value_in_closed_form():
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(0, 10) == 2**-9
    assert mcnemar(10, 0) == 2**-9
    assert mcnemar(50_000, 0) == 0  # too small for a float
    assert 0 < mcnemar(24_000, 25_000) < 1e-5


def test_the_interval_is_that_of_bonett_and_price():
    """The example of R's statpsych::ci.prop.ps, which takes the counts 12, 4, 26, 6."""
    result = paired(*booleans(both=6, only_first=26, only_second=4, neither=12))
    assert (result.low, result.high) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)
    assert result.difference == pytest.approx(22 / 48)
    assert (result.only_first, result.only_second, result.examples) == (26, 4, 48)


@settings(deadline=None)
@given(st.tuples(counts, counts, counts, counts).filter(any))
def test_swapping_the_two_turns_the_signs(cells):
    both, only_first, only_second, neither = cells
    one = paired(*booleans(both, only_first, only_second, neither))
    other = paired(*booleans(both, only_second, only_first, neither))
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == other.p_value
    assert -1 <= one.low <= one.difference <= one.high <= 1


def test_the_interval_covers_the_true_difference():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(1000):
        both, only_first, only_second, neither = rng.multinomial(60, [0.3, 0.2, 0.1, 0.4])
        result = paired(*booleans(both, only_first, only_second, neither))
        hits += result.low <= 0.1 <= result.high
    assert hits > 930


def frame(right, labels=None, first=0):
    ids = range(first, first + len(right))
    return pl.DataFrame({"example_id": ids, "label": labels or [0] * len(right), "correct": right})


def test_checkpoints_are_compared_per_attack_and_on_the_union():
    one = {"linf": frame([True, True, False]), "l2": frame([True, False, True]), "own": frame([True] * 3)}
    other = {"linf": frame([True, False, False]), "l2": frame([False, False, False])}
    result = compare(one, other, ["linf", "l2"])
    assert {name: (pair.only_first, pair.only_second) for name, pair in result.items()} == {
        "linf": (1, 0),
        "l2": (2, 0),
        "union": (1, 0),
    }
    assert "union" not in compare(one, {"linf": other["linf"]}, ["linf", "l2"])


def test_what_cannot_be_paired_is_refused():
    ours = {"linf": frame([True, False])}
    with pytest.raises(UserError, match="no attack in common"):
        compare(ours, {"l2": frame([True, False])}, [])
    with pytest.raises(UserError, match="different examples"):
        compare(ours, {"linf": frame([True, False], first=1)}, [])
    with pytest.raises(UserError, match="different labels"):
        compare(ours, {"linf": frame([True, False], labels=[1, 0])}, [])
    with pytest.raises(ValueError, match="at least 1"):
        paired(*booleans(0, 0, 0))
