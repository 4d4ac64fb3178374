"""Classes at −∞ do not exist: a network that masks them is attacked as the one that lacks them."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import APGD, FAB, PGD, SparseAPGD, Square
from gauntlet.data import Batch
from gauntlet.evaluation import AttackSuite, evaluate, probe
from gauntlet.goals import RandomTarget, RankedTargets, Untargeted
from gauntlet.losses import DLR, CrossEntropy, LogitDifference, Margin, TargetedDLR, margin
from gauntlet.models import logits_of
from gauntlet.noise import Noise
from gauntlet.threats import L1, L2, Linf
from tests.evaluation.tiny import examples
from tests.fixtures import random_images, tapped

DEAD = -torch.inf
LABELS = torch.tensor([0, 1, 2, 0])
LOGITS = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.5, 0.4, -1.0], [1.0, 1.0, 1.0]])


class Masked(nn.Module):
    """Ends in six classes for which it was not trained yet."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        logits = self.network(images)
        return torch.cat((logits, torch.full((len(logits), 6), DEAD)), 1)


def masked(logits):
    return torch.cat((logits, torch.full((len(logits), 6), DEAD)), 1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", [Margin(), Margin(0.5), CrossEntropy(), DLR()])
def test_losses_and_their_gradients_are_those_without_the_dead_classes(loss, classes):
    logits, labels = LOGITS[:, :classes].clone().requires_grad_(), LABELS.clamp(max=classes - 1)
    for measure in (loss, loss.towards):
        plain, result = measure(logits, labels), measure(masked(logits), labels)
        assert result.allclose(plain)
        slopes = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (plain, result)]
        assert slopes[1].allclose(slopes[0])
    assert margin(masked(logits), labels).equal(margin(logits, labels))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", [LogitDifference(), TargetedDLR()])
def test_losses_of_two_classes_are_those_without_the_dead_classes(loss, classes):
    logits, labels = LOGITS[:, :classes].clone().requires_grad_(), LABELS.clamp(max=classes - 1)
    rivals = (labels + 1) % classes
    plain, result = loss(logits, labels, rivals), loss(masked(logits), labels, rivals)
    assert result.allclose(plain)
    slopes = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (plain, result)]
    assert slopes[1].allclose(slopes[0])


def test_where_no_other_class_exists_the_margin_is_infinite_and_nothing_is_nan():
    logits = torch.tensor([[DEAD, 2.0, DEAD]])
    assert margin(logits, torch.tensor([1])).tolist() == [torch.inf]
    assert margin(logits, torch.tensor([0])).tolist() == [-torch.inf]
    for loss in (Margin(), CrossEntropy(), DLR()):
        assert not loss(logits, torch.tensor([1])).isnan().any()
    assert not TargetedDLR()(logits, torch.tensor([1]), torch.tensor([0])).isnan().any()


def test_ranked_targets_are_classes_that_exist_the_likeliest_first_and_round_again():
    goal = RankedTargets(targets=4).bind(torch.tensor([1, 0]), Noise(torch.arange(2)))
    logits = torch.tensor([[DEAD, 5.0, 1.0, 3.0, DEAD], [0.0, DEAD, DEAD, DEAD, 2.0]])
    with_targets = goal.with_targets(lambda: logits)
    assert with_targets.targets.tolist() == [[3, 2, 3, 2], [4, 4, 4, 4]]


def test_random_targets_are_uniform_over_the_classes_that_exist():
    logits = torch.tensor([0.0, DEAD, 0.0, 0.0, DEAD, 0.0]).expand(6000, 6)
    goal = RandomTarget().bind(torch.full((6000,), 2), Noise(torch.arange(6000)))
    counts = goal.targets(logits).bincount(minlength=6)
    assert counts[[1, 2, 4]].tolist() == [0, 0, 0]
    assert (counts[[0, 3, 5]] - 2000).abs().max() < 200  # 5.5 standard deviations


SEARCHES = {
    "apgd": APGD(threat_model=Linf(0.1), steps=6),
    "apgd dlr": APGD(threat_model=L2(0.5), steps=6, goal=Untargeted(DLR())),
    "apgd ranked": APGD(threat_model=Linf(0.05), steps=4, goal=RankedTargets()),
    "pgd margin": PGD(threat_model=Linf(0.1), steps=4, goal=Untargeted(Margin())),
    "pgd target": PGD(threat_model=Linf(0.1), steps=4, goal=RandomTarget()),
    "sparse apgd": SparseAPGD(threat_model=L1(6.0), steps=10),
    "fab": FAB(threat_model=Linf(0.1), steps=4),
    "fab margin": FAB(threat_model=L2(0.6), steps=4, goal=Untargeted(Margin())),
    "square": Square(threat_model=Linf(0.1), queries=30),
}


@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_attacks_break_the_same_examples_as_without_the_dead_classes(attack):
    network, images = tapped(classes=4), random_images(16, 3, 8, 8)
    labels = logits_of(network, images).argmax(1)
    broken = []
    for each in (network, Masked(network)):
        result = attack(each, images, labels, seeds=torch.arange(16)).images
        broken.append(logits_of(network, result).argmax(1) != labels)
    assert broken[0].any()
    assert broken[1].equal(broken[0])


def test_the_library_and_the_probe_take_a_network_with_dead_classes():
    suite = AttackSuite({"linf": APGD(threat_model=Linf(0.1), steps=5, goal=Untargeted(DLR()))})
    network, split = tapped(classes=4), examples()
    plain, result = (evaluate(each.eval(), split, suite)["linf"] for each in (network, Masked(network)))
    assert result["correct"].equals(plain["correct"])
    assert result["margin"].is_finite().all()
    batch = split[slice(0, 12)]
    flags = [probe(each.eval(), suite, Batch(*batch)) for each in (network, Masked(network))]
    assert [(flag.name, flag.raised) for flag in flags[0]] == [(flag.name, flag.raised) for flag in flags[1]]
