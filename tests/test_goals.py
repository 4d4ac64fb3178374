"""Goals: when they are reached, and targets that are never the label."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional as F

from gauntlet.goals import RandomTarget, RankedTargets, Untargeted
from gauntlet.losses import LogitDifference, Margin, margin
from gauntlet.noise import Noise

logit_rows = st.integers(2, 6).flatmap(
    lambda classes: st.lists(
        st.lists(st.floats(-50, 50, width=32), min_size=classes, max_size=classes), min_size=1, max_size=5
    )
)


@settings(deadline=None)
@given(logit_rows, st.data())
def test_untargeted_is_reached_just_where_the_margin_is_negative_except_on_ties(rows, data):
    logits = torch.tensor(rows)
    labels = torch.tensor([data.draw(st.integers(0, len(row) - 1)) for row in rows])
    lead, reached = margin(logits, labels), Untargeted().bind(labels, Noise(labels)).reached(logits)
    assert reached[lead < 0].all()
    assert not reached[lead > 0].any()


@pytest.mark.parametrize("objective", [Untargeted(), Untargeted(Margin(1.0)), RandomTarget(Margin()), RandomTarget()])
def test_one_class_raises(objective):
    goal = objective.bind(torch.zeros(2, dtype=torch.long), Noise(torch.arange(2)))
    with pytest.raises(ValueError, match="at least 2 classes"):
        goal.gain(torch.zeros(2, 1))


def test_the_gain_of_a_target_is_minus_its_loss():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.3, 0.1, 0.0]])
    goal = RandomTarget().bind(torch.tensor([0, 2]), Noise(torch.arange(2)))
    assert goal.gain(logits).equal(-F.cross_entropy(logits, goal.targets(logits), reduction="none"))


def test_a_margin_towards_a_target_stops_at_kappa_ahead_and_not_behind():
    """min(z_t − z_o, κ): far behind there is a gradient, beyond κ there is none (Laidlaw et al. 2021)."""
    logits = torch.tensor([[9.0, 0.0], [0.5, 0.0], [0.0, 9.0]], requires_grad=True)
    goal = RandomTarget(Margin(1.0)).bind(torch.zeros(3, dtype=torch.long), Noise(torch.arange(3)))
    gain = goal.gain(logits)
    assert gain.tolist() == [-9.0, -0.5, 1.0]
    gain.sum().backward()
    assert logits.grad.tolist() == [[-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]]


@settings(deadline=None)
@given(st.integers(2, 1000), st.integers(0, 10**9))
def test_a_random_target_is_a_class_and_never_the_label(classes, seed):
    labels = torch.arange(64) * 7919 % classes
    targets = RandomTarget().bind(labels, Noise(seed + torch.arange(64))).targets(torch.zeros(64, classes))
    assert (targets != labels).all()
    assert targets.min() >= 0
    assert targets.max() < classes


def test_even_the_largest_draw_is_not_the_label():
    goal = RandomTarget().bind(torch.tensor([3]), Noise(torch.tensor([0])))
    last = type(goal)(goal.labels, goal.loss, torch.tensor([1.0]))
    assert last.targets(torch.zeros(1, 10)).tolist() == [2]


@pytest.mark.parametrize("label", [0, 4, 9])
def test_random_targets_are_uniform_over_the_other_classes(label):
    targets = RandomTarget().bind(torch.full((9000,), label), Noise(torch.arange(9000))).targets(torch.zeros(9000, 10))
    counts = targets.bincount(minlength=10)
    assert counts[label] == 0
    others = torch.cat((counts[:label], counts[label + 1 :]))
    assert stats.chisquare(others.numpy()).pvalue > 1e-3


def test_a_target_is_reached_when_it_is_predicted():
    goal = RandomTarget().bind(torch.zeros(6, dtype=torch.long), Noise(torch.arange(6)))
    targets = goal.targets(torch.zeros(6, 5))
    assert goal.reached(F.one_hot(targets, 5).float()).all()
    assert not goal.reached(F.one_hot((targets + 1) % 5, 5).float()).any()


@pytest.mark.parametrize("objective", [Untargeted(), RandomTarget(), RandomTarget(Margin())])
@pytest.mark.parametrize("keep", [torch.tensor([True, False, True, True]), torch.tensor([3, 0]), torch.zeros(4) > 1])
def test_rows_of_a_goal_are_the_goal_of_the_rows(objective, keep):
    goal = objective.bind(torch.tensor([0, 1, 2, 3]), Noise(torch.arange(4)))
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert goal.rows(keep).gain(logits[keep]).equal(goal.gain(logits)[keep])
    assert goal.rows(keep).reached(logits[keep]).equal(goal.reached(logits)[keep])


def test_the_target_of_an_example_does_not_depend_on_its_batch():
    labels, seeds = torch.arange(8) % 5, torch.arange(8)
    whole = RandomTarget().bind(labels, Noise(seeds)).targets(torch.zeros(8, 5))
    assert RandomTarget().bind(labels[5:6], Noise(seeds[5:6])).targets(torch.zeros(1, 5)).equal(whole[5:6])


def test_ranked_targets_are_the_likeliest_other_classes_of_the_clean_logits_in_turn():
    clean = torch.tensor([[3.0, 9.0, 5.0, 4.0], [0.0, 1.0, 2.0, 3.0]])
    goal = (
        RankedTargets(LogitDifference(), targets=2)
        .bind(torch.tensor([1, 1]), Noise(torch.arange(2)))
        .with_targets(lambda: clean)
    )
    assert goal.num_targets == 2
    assert goal.targets.tolist() == [[2, 3], [3, 2]]
    now = torch.tensor([[0.0, 0.5, 2.0, 4.0], [1.0, 7.0, 3.0, 2.0]])
    assert goal.at_target(0).gain(now).tolist() == [1.5, -5.0]
    assert goal.at_target(1).gain(now).tolist() == [3.5, -4.0]
    assert goal.reached(now).tolist() == [True, False]
    keep = torch.tensor([False, True])
    assert goal.at_target(1).rows(keep).gain(now[keep]).tolist() == [-4.0]


@pytest.mark.parametrize(("classes", "num_targets"), [(2, 1), (5, 4), (10, 9), (100, 9)])
def test_there_are_nine_ranked_targets_or_all_other_classes(classes, num_targets):
    labels = torch.zeros(3, dtype=torch.long)
    goal = RankedTargets().bind(labels, Noise(labels)).with_targets(lambda: torch.zeros(3, classes))
    assert goal.num_targets == num_targets
    assert (goal.targets != 0).all()
    assert all(len(row.unique()) == num_targets for row in goal.targets)


def test_ranked_targets_need_a_target_and_another_class():
    with pytest.raises(ValueError, match="expected at least 1"):
        RankedTargets(targets=0)
    labels = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="at least 2 classes"):
        RankedTargets().bind(labels, Noise(labels)).with_targets(lambda: torch.zeros(3, 1))
