"""Losses in closed form: margins and their caps, cross-entropy, the difference of logits ratio."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.losses import DLR, CrossEntropy, Margin, TargetedDLR, margin

logit_rows = st.integers(2, 6).flatmap(
    lambda classes: st.lists(
        st.lists(st.floats(-50, 50, width=32), min_size=classes, max_size=classes), min_size=1, max_size=5
    )
)


@pytest.mark.parametrize(
    ("logits", "label", "lead"),
    [
        ([3.0, 1.0, 2.0], 0, 1.0),
        ([3.0, 1.0, 2.0], 1, -2.0),
        ([3.0, 1.0, 2.0], 2, -1.0),
        ([2.0, 2.0, 0.0], 0, 0.0),  # a tie between the label and another
        ([0.0, 2.0, 2.0], 0, -2.0),  # a tie between two others
        ([5.0, 5.0, 5.0], 1, 0.0),
        ([-1.0, 4.0], 0, -5.0),  # two classes
        ([-1.0, 4.0], 1, 5.0),
    ],
)
def test_margin_is_the_lead_over_the_best_other_class(logits, label, lead):
    assert margin(torch.tensor([logits]), torch.tensor([label])).tolist() == [lead]


@settings(deadline=None)
@given(logit_rows, st.data())
def test_margin_equals_a_plain_loop(rows, data):
    labels = [data.draw(st.integers(0, len(row) - 1)) for row in rows]
    expected = [
        torch.tensor(row)[label] - max(torch.tensor(row)[k] for k in range(len(row)) if k != label)
        for row, label in zip(rows, labels, strict=True)
    ]
    assert margin(torch.tensor(rows), torch.tensor(labels)).equal(torch.stack(expected))


def test_margin_of_no_examples_is_empty():
    assert margin(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_margin_of_one_example_keeps_its_dimension():
    assert margin(torch.zeros(1, 3), torch.zeros(1, dtype=torch.long)).shape == (1,)


def test_the_margin_loss_stops_at_kappa_with_no_gradient_beyond():
    logits = torch.tensor([[0.0, 3.0], [0.0, 0.5], [4.0, 0.0]], requires_grad=True)
    loss = Margin(kappa=1.0)(logits, torch.zeros(3, dtype=torch.long))
    assert loss.tolist() == [1.0, 0.5, -4.0]
    loss.sum().backward()
    assert logits.grad.tolist() == [[0.0, 0.0], [-1.0, 1.0], [-1.0, 1.0]]


def test_the_margin_loss_has_no_cap_by_default():
    assert Margin()(torch.tensor([[0.0, 1e6]]), torch.zeros(1, dtype=torch.long)).tolist() == [1e6]


@pytest.mark.parametrize("kappa", [0.0, 1.0, float("inf")])
def test_the_gradient_at_a_tie_is_finite_and_sums_to_nothing(kappa):
    logits = torch.zeros(1, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(Margin(kappa)(logits, torch.tensor([2])).sum(), logits)
    assert gradient.isfinite().all()
    assert gradient.sum().item() == pytest.approx(0, abs=1e-6)
    assert gradient[0, 2] <= 0


def test_cross_entropy_is_the_negative_log_probability():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    labels = torch.tensor([0, 2])
    expected = -torch.softmax(logits.double(), 1)[[0, 1], labels].log()
    assert CrossEntropy()(logits, labels).double().allclose(expected, atol=1e-6)


@pytest.mark.parametrize(
    ("logits", "label", "ratio"),
    [
        ([3.0, 1.0, 2.0], 0, -1 / 2),  # −(3 − 2)/(3 − 1)
        ([3.0, 1.0, 2.0], 2, 1 / 2),
        ([3.0, 1.0, 2.0], 1, 1.0),
        ([4.0, 1.0, 2.0, 0.0], 0, -2 / 3),
        ([5.0, 5.0, 5.0], 1, 0.0),
        ([-1.0, 4.0], 1, -5.0),  # two classes: the margin
    ],
)
def test_dlr_is_the_ratio_of_the_paper(logits, label, ratio):
    assert DLR()(torch.tensor([logits]), torch.tensor([label])).item() == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("logits", "label", "rival", "ratio"),
    [
        ([4.0, 1.0, 2.0, 0.0], 0, 2, -2 / 3.5),  # −(4 − 2)/(4 − (1 + 0)/2)
        ([4.0, 1.0, 2.0, 0.0], 2, 0, 2 / 3.5),
        ([4.0, 1.0, 2.0, 0.0, -9.0], 0, 4, -13 / 3.5),
        ([3.0, 1.0, 2.0], 0, 2, -1 / 2),  # three classes: the third alone
        ([-1.0, 4.0], 1, 0, -5.0),  # two: the lead
        ([5.0, 5.0, 5.0, 5.0], 1, 0, 0.0),
    ],
)
def test_targeted_dlr_is_the_ratio_of_the_paper(logits, label, rival, ratio):
    result = TargetedDLR()(torch.tensor([logits]), torch.tensor([label]), torch.tensor([rival]))
    assert result.item() == pytest.approx(ratio)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_dlr_losses_are_blind_to_scale_and_shift(scale):
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, rivals = torch.arange(6) % 5, (torch.arange(6) + 2) % 5
    assert DLR()(scale * logits + 7, labels).allclose(DLR()(logits, labels))
    assert TargetedDLR()(scale * logits + 7, labels, rivals).allclose(TargetedDLR()(logits, labels, rivals))
