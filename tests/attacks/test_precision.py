"""A search in bfloat16: cheaper looks, and no success that float32 does not see."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gauntlet.attacks import APGD, FAB, PGD, LagrangianPerceptualAttack, Square
from gauntlet.distances import LPIPS
from gauntlet.goals import RankedTargets, Untargeted
from gauntlet.losses import CrossEntropy, TargetedDLR
from gauntlet.threats import L2, Linf, NeuralPerceptual, StAdv
from tests.fixtures import Counting, predictions, random_images, tapped
from tests.networks import alexnet_distance, cifar10_test, resnet32

BOUND = Linf(8 / 255)


class Rounding(nn.Module):
    """Class 1 where the mean exceeds 0.503, which bfloat16 believes from 0.502 on: after 0.5 it has 0.5039."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []
        self.mean = nn.Linear(4, 1, bias=False)
        nn.init.constant_(self.mean.weight, 0.25)

    def forward(self, images):
        mean = self.mean(images.flatten(1))
        self.dtypes.append(mean.dtype)
        return torch.cat((torch.full_like(mean, 0.5), mean.float().sub(0.503).mul(1e3).add(0.5)), 1)


def test_what_only_bfloat16_sees_as_wrong_goes_on_until_float32_agrees():
    images, labels = torch.full((1, 1, 2, 2), 0.497), torch.tensor([0])
    threat, looks = Linf(0.01), {}
    for precision in ("float32", "bfloat16"):
        classifier = Rounding()
        attack = PGD(threat_model=threat, steps=20, step_size=0.05, precision=precision)
        found = attack(classifier, images, labels, seeds=torch.tensor([0]))
        assert predictions(Rounding(), found.images).item() == 1
        assert found.images.mean() > 0.503
        looks[precision] = classifier.dtypes
    assert set(looks["float32"]) == {torch.float32}
    assert looks["bfloat16"][0] == torch.bfloat16
    assert looks["bfloat16"][-1] == torch.float32  # the look that let it go
    assert looks["bfloat16"].count(torch.float32) > 1  # and one at least that did not


@pytest.mark.parametrize("self_bounded", [True, False], ids=["the classifier's own φ", "another network's φ"])
def test_distances_are_measured_in_float32(self_bounded):
    classifier, eyes = tapped(), tapped(seed=9)
    images, labels = random_images(6, 3, 8, 8), torch.zeros(6, dtype=torch.long)
    seen = []
    eyes.stages[0].register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    threat = NeuralPerceptual(LPIPS(classifier if self_bounded else eyes), 0.3)
    attack = LagrangianPerceptualAttack(threat_model=threat, searches=2, steps=3, precision="bfloat16")
    found = attack(classifier, images, labels, seeds=torch.arange(6))
    assert (found.size <= 1 + 1e-4).all()
    assert self_bounded or (seen and not any(seen))


def test_a_confirmation_costs_one_forward_of_whoever_claims():
    """Everyone falls at the first look: one look in bfloat16, one to confirm, and the batch is empty."""
    classifier = Counting(tapped())
    images = random_images(6, 3, 8, 8)
    labels = (predictions(classifier, images) + 1) % 4
    classifier.batches.clear()
    PGD(threat_model=BOUND, steps=5, precision="bfloat16")(classifier, images, labels, seeds=torch.arange(6))
    assert classifier.batches == [6, 6]


@pytest.mark.parametrize("attack", [FAB, Square])
def test_what_follows_small_differences_is_refused(attack):
    with pytest.raises(ValueError, match=f"{attack.__name__} in bfloat16: .*expected float32"):
        attack(threat_model=BOUND, precision="bfloat16")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="a search in half: expected float32 or bfloat16"):
        PGD(threat_model=BOUND, precision="half")


REAL = {
    "pgd": PGD(threat_model=BOUND, steps=40, step_size=0.1, goal=Untargeted(CrossEntropy())),
    "pgd stadv": PGD(threat_model=StAdv(0.01), steps=20, step_size=0.2),
    "apgd": APGD(threat_model=BOUND, goal=Untargeted(CrossEntropy())),
    "apgd l2": APGD(threat_model=L2(0.5), goal=Untargeted(CrossEntropy())),
    "apgd targeted": APGD(threat_model=BOUND, steps=50, goal=RankedTargets(TargetedDLR(), 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", REAL.values(), ids=REAL)
def test_on_a_robust_network_the_two_agree(attack):
    """Of 64 photographs at most two change sides, which is well inside the interval of either accuracy."""
    (images, labels), classifier = cifar10_test(64), resnet32("delta")
    right = []
    for precision in ("float32", "bfloat16"):
        found = replace(attack, precision=precision)(classifier, images, labels, seeds=torch.arange(64))
        right.append(predictions(classifier, found.images) == labels)
    assert (right[0] != right[1]).sum() <= 2


@pytest.mark.slow
def test_in_the_alexnet_ball_nothing_is_left_either():
    (images, labels), classifier = cifar10_test(32), resnet32("delta")
    attack = LagrangianPerceptualAttack(threat_model=NeuralPerceptual(alexnet_distance(), 0.5), precision="bfloat16")
    found = attack(classifier, images, labels, seeds=torch.arange(32))
    assert (predictions(classifier, found.images) != labels).all()
