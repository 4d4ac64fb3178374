"""The areas of the Venn figure, against counting by hand, and how far the images went."""

import math
from itertools import combinations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.errors import UserError
from gauntlet.evaluation import bootstrap_means, coverage, distance_statistics, overlaps
from gauntlet.evaluation.statistics.bootstrap import bootstrap_metric
from gauntlet.noise import Noise, mix


def frame(right_before, correct, first=0, **columns):
    """Records of examples whose label is 1."""
    count = len(correct)
    kept = {
        "example_id": range(first, first + count),
        "label": [1] * count,
        "clean_prediction": list(map(int, right_before)),
    }
    return pl.DataFrame({**kept, "correct": [a and b for a, b in zip(right_before, correct, strict=True)], **columns})


tables = st.integers(1, 30).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=2, max_size=4)
)


@settings(deadline=None)
@given(tables)
def test_every_subset_of_the_attacks_has_its_area(table):
    right_before, *robust = table
    names = ["a", "b", "c"][: len(robust)]
    areas = {
        area.attacks: area.examples
        for area in overlaps({name: frame(right_before, r) for name, r in zip(names, robust, strict=True)})
    }
    broken_examples = {
        name: {i for i in range(len(r)) if right_before[i] and not r[i]} for name, r in zip(names, robust, strict=True)
    }
    for size in range(len(names) + 1):
        for subset in combinations(names, size):
            exactly = {
                i
                for i in range(len(right_before))
                if right_before[i] and all((i in broken_examples[name]) == (name in subset) for name in names)
            }
            assert areas.get(subset, 0) == len(exactly)
    assert sum(areas.values()) == sum(right_before)


def test_the_largest_area_comes_first_and_coverage_is_a_share_of_the_broken_examples():
    yes = [True] * 6
    frames = {
        "linf": frame(yes, [False, False, True, True, True, True]),
        "lpa": frame(yes, [False, False, False, False, False, True]),
        "idle": frame(yes, yes),
    }
    areas = overlaps(frames)
    assert areas == [(("lpa",), 3), (("linf", "lpa"), 2), ((), 1)]
    assert coverage(areas, by="lpa", of="linf") == 1.0
    assert coverage(areas, by="linf", of="lpa") == pytest.approx(0.4)
    assert coverage(areas, by="lpa", of="idle") is None


def test_overlaps_of_different_examples_are_refused():
    with pytest.raises(UserError, match="different examples"):
        overlaps({"a": frame([True], [True]), "b": frame([True], [True], first=1)})


def test_distances_are_of_successful_attacks_alone():
    linf = [0.1, 0.2, 0.3, 9.0, 9.0]
    statistics = distance_statistics(
        frame(
            [True, True, True, True, False],
            [False, False, False, True, False],
            linf=linf,
            l2=[2.0] * 5,
            perceptual=pl.Series([None] * 5, dtype=pl.Float32),
            lpips=pl.Series([None] * 5, dtype=pl.Float32),
            size=[1.0] * 5,
        )
    )
    assert statistics["distance"].to_list() == ["linf", "l2", "size"]
    row = statistics.row(0, named=True)
    assert (row["examples"], row["mean"], row["q50"]) == (3, pytest.approx(0.2), pytest.approx(0.2))
    assert [row["q05"], row["q25"], row["q75"], row["q95"]] == pytest.approx(
        np.quantile(linf[:3], [0.05, 0.25, 0.75, 0.95]).tolist()
    )
    assert 0.1 <= row["low"] <= 0.2 <= row["high"] <= 0.3
    assert statistics.row(1)[2:5] == (2.0, 2.0, 2.0)


def test_an_attack_that_breaks_nothing_has_no_distances():
    assert distance_statistics(frame([True], [True], linf=[0.1], l2=[0.1], size=[1.0])).is_empty()


def test_the_bootstrap_is_scipys():
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).exponential(size=200)
    (ours,) = bootstrap_means([values.tolist()], resamples=4000)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.08 * width)
    assert (ours.high - ours.low) == pytest.approx(2 * 1.96 * values.std() / math.sqrt(200), rel=0.08)


def test_the_bootstrap_is_a_function_of_its_seed_and_draws_the_same_examples_for_all_columns():
    values = [0.0, 1.0, 5.0, 2.0]
    one, twice = bootstrap_means([values, [2 * value for value in values]])
    assert (2 * one.low, 2 * one.high) == pytest.approx((twice.low, twice.high))
    assert bootstrap_means([values, values])[0] == bootstrap_means([values, values])[1] == pytest.approx(one)
    assert bootstrap_means([values * 50], seed=1) != bootstrap_means([values * 50], seed=2)


def test_the_bootstrap_draws_the_numbers_of_noise():
    """Its draws are those of `Noise`, which every stored interval was computed from."""
    values = np.random.default_rng(0).exponential(size=(2, 50))
    uniform = Noise(mix(7, torch.arange(30))).uniform((30, 50))
    rows = (uniform.double() * 50).long().numpy()
    low, high = np.quantile(values[:, rows].mean(2), (0.025, 0.975), axis=1)
    ours = bootstrap_means(values.tolist(), seed=7, resamples=30)
    assert [estimate.low for estimate in ours] == pytest.approx(low)
    assert [estimate.high for estimate in ours] == pytest.approx(high)
    metric = bootstrap_metric(pl.DataFrame({"x": values[0]}), lambda frame: frame["x"].mean(), seed=7, resamples=30)
    assert (metric.low, metric.high) == pytest.approx((low[0], high[0]))


@pytest.mark.parametrize(("values", "message"), [([[]], "no examples"), ([[1.0, math.inf]], "finite")])
def test_a_bootstrap_of_nothing_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_means(values)
