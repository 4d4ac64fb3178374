"""Where a gradient is undefined there is no slope: searches go on with the other pixels and the other examples."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gauntlet.attacks import APGD, FAB, PGD, SparseAPGD
from gauntlet.attacks.gradient import defined, finite_gradient
from gauntlet.data import Digits
from gauntlet.evaluation import AttackSuite, evaluate, probe
from gauntlet.models import logits_of, small_resnet
from gauntlet.noise import mix
from gauntlet.threats import L1, L2, Linf


class FlatRoot(torch.autograd.Function):
    """The square root with a derivative of 0 at 0."""

    @staticmethod
    def forward(ctx, numbers):
        root = numbers.sqrt()
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx, gradient):
        (root,) = ctx.saved_tensors
        return torch.where(root > 0, gradient / (2 * root), 0)


class Edges(nn.Module):
    """Adds the length of the vertical differences, whose gradient is NaN where two pixels are alike."""

    def __init__(self, network, root=torch.sqrt):
        super().__init__()
        self.network, self.root = network, root

    def forward(self, images):
        change = images[:, :, 1:] - images[:, :, :-1]
        length = self.root((change**2).sum(1)).mean((1, 2))
        return self.network(images) + 0.1 * length[:, None] * torch.linspace(-1, 1, 10)


@pytest.fixture(scope="module")
def digits():
    return Digits(size=16).splits


@pytest.fixture(scope="module")
def trained(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = small_resnet(10, [0.3] * 3, [0.3] * 3, width=8)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for epoch in range(3):
        for rows in mix(epoch, torch.arange(len(digits.train))).argsort().split(100):
            optimizer.zero_grad()
            F.cross_entropy(network.train()(digits.train[rows].images), digits.train[rows].labels).backward()
            optimizer.step()
    return network.eval()


def test_the_gradient_of_the_network_is_not_finite_where_pixels_are_alike(trained, digits):
    images = digits.test[:8].images.clone().requires_grad_()
    logits = logits_of(Edges(trained), images)
    assert logits.isfinite().all()
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert (~gradient.isfinite()).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("attack", "tolerance"),
    [
        (SparseAPGD(threat_model=L1(4.0), steps=30), 0.02),
        (APGD(threat_model=L1(4.0), steps=20), 0.02),
        (APGD(threat_model=L2(0.4), steps=15), 0.02),
        (PGD(threat_model=L2(0.4), steps=15), 0.02),
        (PGD(threat_model=Linf(0.05), steps=10), 0.02),
        (FAB(threat_model=L2(0.4), steps=5), 0.1),  # begins at the image, where all that is flat has no slope
    ],
    ids=["sparse apgd", "apgd l1", "apgd l2", "pgd l2", "pgd linf", "fab"],
)
def test_attacks_reach_what_they_reach_where_the_slope_is_0_instead(trained, digits, attack, tolerance):
    batch = digits.test[:60]

    def robust_accuracy(root):
        network = Edges(trained, root).eval()
        result = attack(network, batch.images, batch.labels, seeds=batch.ids)
        return (logits_of(network, result.images).argmax(1) == batch.labels).float().mean()

    expected = robust_accuracy(FlatRoot.apply)
    assert expected < 0.75
    assert (robust_accuracy(torch.sqrt) - expected).abs() <= tolerance


def test_an_evaluation_goes_on_and_the_flag_is_raised(trained, digits):
    batch, network = digits.test[:24], Edges(trained).eval()
    suite = AttackSuite(
        {"l2": PGD(threat_model=L2(0.4), steps=5), "sparse": SparseAPGD(threat_model=L1(4.0), steps=10)}
    )
    split = digits.test
    records = evaluate(network, split, suite)
    assert {name: len(frame) for name, frame in records.items()} == {name: len(split) for name in suite.entries}
    assert all(frame["correct"].sum() < len(split) * 0.95 for frame in records.values())
    raised = {(flag.name, flag.attack) for flag in probe(network, suite, batch) if flag.raised}
    assert {("gradients", "l2"), ("gradients", "sparse")} <= raised
    sound = probe(Edges(trained, FlatRoot.apply).eval(), suite, batch)
    assert not any(flag.raised for flag in sound if flag.name == "gradients")


def test_one_example_without_a_slope_takes_nothing_from_the_others():
    class Norm(nn.Module):
        """The gradient is NaN at the image that is black."""

        def forward(self, images):
            length = images.flatten(1).norm(dim=1)
            root = images.flatten(1).square().sum(1).sqrt()
            return torch.stack((length + root, 2 * images.flatten(1).sum(1) + 3), 1)

    images = torch.full((3, 1, 2, 2), 0.5)
    images[1] = 0
    attack, labels = PGD(threat_model=L2(0.2), steps=3, step_size=0.5), torch.ones(3, dtype=torch.long)
    images_of = lambda rows: attack(Norm(), images[rows], labels[rows], seeds=torch.arange(3)[rows]).images  # noqa: E731
    assert images_of([0, 1, 2])[[0, 2]].equal(images_of([0, 2]))
    assert images_of([0, 1, 2]).isfinite().all()


def test_only_numbers_that_are_not_finite_become_0():
    gradient = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf, -3e38])
    assert defined(gradient).equal(torch.tensor([1.0, 0, 0, 0, -3e38]))
    params = torch.tensor([[0.0, 4.0], [9.0, 0.0]], requires_grad=True)
    assert finite_gradient(params.sqrt().sum(1), params).allclose(torch.tensor([[0, 0.25], [1 / 6, 0]]))
