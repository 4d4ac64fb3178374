"""What records say: against the definitions, and against statsmodels."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from gauntlet.errors import UserError
from gauntlet.evaluation import accuracy, mean_accuracy, union_accuracy, unseen, wilson


def frame(right, first=0):
    return pl.DataFrame({"example_id": range(first, first + len(right)), "correct": [bool(r) for r in right]})


columns = st.integers(1, 40).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=4)
)


@settings(deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_are_wilsons(counts):
    right, examples = counts
    ours = wilson(right / examples, examples)
    assert (ours.low, ours.high) == pytest.approx(proportion_confint(right, examples, method="wilson"), abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1 or ours.value in (0, 1)


@settings(deadline=None)
@given(columns)
def test_the_union_is_the_and_of_the_attacks_in_any_order(attacks):
    frames = [frame(right) for right in attacks]
    union = union_accuracy(frames)
    together = [all(row) for row in zip(*attacks, strict=True)]
    assert union.value == pytest.approx(sum(together) / len(together))
    assert union == union_accuracy(frames[::-1])
    assert union.value <= min(accuracy(one).value for one in frames) + 1e-12


@settings(deadline=None)
@given(columns)
def test_the_mean_is_the_mean_of_the_attacks(attacks):
    frames = [frame(right) for right in attacks]
    expected = sum(accuracy(one).value for one in frames) / len(frames)
    assert mean_accuracy(frames).value == pytest.approx(expected)


def test_attacks_on_different_examples_have_no_union():
    with pytest.raises(UserError, match="different examples"):
        union_accuracy([frame([1, 0]), frame([1, 0], first=1)])
    with pytest.raises(UserError, match="different examples"):
        union_accuracy([frame([1, 0]), frame([1])])


@settings(deadline=None)
@given(columns)
def test_the_means_interval_is_wilsons_for_one_attack_and_never_wider_for_several(attacks):
    frames = [frame(right) for right in attacks]
    one, ours = accuracy(frames[0]), mean_accuracy(frames)
    assert mean_accuracy(frames[:1]) == pytest.approx(one)
    wide = wilson(ours.value, ours.examples)
    assert wide.low - 1e-12 <= ours.low <= ours.value + 1e-12
    assert ours.value - 1e-12 <= ours.high <= wide.high + 1e-12
    assert ours.examples == len(frames[0])


def test_the_means_interval_covers_the_truth_as_often_as_it_says():
    """Four attacks that break overlapping sets of examples, 300 experiments; Wilson's own interval would cover 99 %."""
    truth, rng = np.array([0.3, 0.35, 0.46, 0.71]), np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        shared, own = rng.random((100, 1)), rng.random((100, 4))
        right = np.where(rng.random((100, 4)) < 0.6, shared, own) < truth
        estimate = mean_accuracy([frame(column) for column in right.T])
        hits += estimate.low <= truth.mean() <= estimate.high
    assert 0.92 < hits / 300 < 0.98


def test_unseen_leaves_out_clean_images_and_what_was_trained_on_and_counts_each_threat_once():
    threats = {"clean": "clean", "linf": "linf", "l2": "l2", "ppgd": "perceptual", "lpa": "perceptual"}
    assert unseen(threats, ["linf"]) == ["l2", "lpa"]
    assert unseen(threats, ["perceptual"]) == ["linf", "l2"]
    assert unseen(threats, []) == ["linf", "l2", "lpa"]
    assert unseen(threats, ["linf", "l2", "perceptual"]) == []


def test_lpa_represents_the_perceptual_threat_model_at_any_position():
    threats = {"lpa": "perceptual", "linf": "linf", "ppgd": "perceptual"}
    assert sorted(unseen(threats, [])) == ["linf", "lpa"]
    assert unseen({"linf": "linf", "quick": "perceptual"}, ["linf|l2", "stadv"]) == []
    assert unseen({"ppgd": "perceptual", "lpa": "perceptual"}, ["linf"]) == ["lpa"]


def test_what_was_trained_on_every_narrow_threat_model_has_no_unseen_mean():
    threats = {"linf": "linf", "l2": "l2", "lpa": "perceptual"}
    assert unseen(threats, ["linf", "l2"]) == []
    assert unseen(threats, ["linf|l2"]) == []
    assert unseen(threats, ["linf|stadv"]) == ["l2", "lpa"]
