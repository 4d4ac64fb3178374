"""What records say: against the definitions, and against statsmodels."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gauntlet.errors import UserError
from gauntlet.evaluation import accuracy, mean_accuracy, union_accuracy, unseen, wilson


def frame(right, first=0):
    return pl.DataFrame({"example_id": range(first, first + len(right)), "robust": [bool(r) for r in right]})


columns = st.integers(1, 40).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=4)
)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_are_wilsons(counts):
    from statsmodels.stats.proportion import proportion_confint

    right, examples = counts
    ours = wilson(right / examples, examples)
    assert (ours.low, ours.high) == pytest.approx(proportion_confint(right, examples, method="wilson"), abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1 or ours.value in (0, 1)


@given(columns)
def test_the_union_is_the_and_of_the_attacks_in_any_order(attacks):
    frames = [frame(right) for right in attacks]
    union = union_accuracy(frames)
    together = [all(row) for row in zip(*attacks, strict=True)]
    assert union.value == pytest.approx(sum(together) / len(together))
    assert union == union_accuracy(frames[::-1])
    assert union.value <= min(accuracy(one).value for one in frames) + 1e-12


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


def test_unseen_leaves_out_clean_images_and_what_was_trained_on_and_counts_each_threat_once():
    threats = {"clean": "clean", "linf": "linf", "l2": "l2", "ppgd": "perceptual", "lpa": "perceptual"}
    assert unseen(threats, ["linf"]) == ["l2", "lpa"]
    assert unseen(threats, ["perceptual"]) == ["linf", "l2"]
    assert unseen(threats, []) == ["linf", "l2", "lpa"]
    assert unseen(threats, ["linf", "l2", "perceptual"]) == []


def test_the_published_unseen_mean_of_pat_self_is_reproduced():
    """Laidlaw et al. 2021, table 2: a PAT model's unseen mean is over the narrow threats."""
    cells = {"linf": 30.2, "l2": 34.9, "stadv": 46.4, "recoloradv": 71.0}
    names = unseen({name: name for name in cells} | {"lpa": "perceptual"}, ["perceptual"])
    assert sum(cells[name] for name in names) / len(names) == pytest.approx(45.6, abs=0.05)
