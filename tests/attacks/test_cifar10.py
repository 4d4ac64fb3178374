"""On CIFAR-10 and three published ResNet-32: a plain one, one trained on L∞, one trained on L∞, flow and colour."""

import pytest
import torch

from gauntlet.attacks import (
    PGD,
    FirstSuccess,
    LagrangianPerceptualAttack,
    Last,
    OvershootingNewton,
    PerceptualPGD,
)
from gauntlet.goals import Untargeted
from gauntlet.losses import CrossEntropy
from gauntlet.threats import Linf, NeuralPerceptual
from tests.fixtures import numpy_distance, predictions
from tests.networks import alexnet_distance, cifar10_test, resnet32

PUBLISHED = {"normal": (0.932, 0.000), "delta": (0.874, 0.265), "recoloradv_stadv_delta": (0.880, 0.370)}
every_network = pytest.mark.parametrize("name", PUBLISHED)


def accuracy(classifier, images, labels):
    return (predictions(classifier, images) == labels).double().mean().item()


@every_network
def test_the_weights_are_those_of_the_record(name):
    images, labels = cifar10_test(500)
    assert accuracy(resnet32(name), images, labels) == pytest.approx(PUBLISHED[name][0], abs=0.003)


@pytest.mark.slow
@every_network
def test_ten_steps_of_pgd_leave_what_the_record_says(name):
    (images, labels), classifier = cifar10_test(200), resnet32(name)
    attack = PGD(threat_model=Linf(8 / 255), steps=10, step_size=0.25, iterate=Last(), goal=Untargeted(CrossEntropy()))
    result = attack(classifier, images, labels, seeds=torch.arange(200))
    assert accuracy(classifier, result.images, labels) == pytest.approx(PUBLISHED[name][1], abs=0.02)


BALL = 0.5
PERCEPTUAL = {
    "lpa": lambda threat: LagrangianPerceptualAttack(threat_model=threat),
    "ppgd": lambda threat: PerceptualPGD(threat_model=threat),
    "lpa as published": lambda threat: LagrangianPerceptualAttack(
        threat_model=threat, projection=OvershootingNewton(), iterate=FirstSuccess()
    ),
}


@pytest.mark.slow
@every_network
@pytest.mark.parametrize("attack", PERCEPTUAL.values(), ids=PERCEPTUAL)
def test_nothing_is_left_in_the_alexnet_ball(name, attack):
    (images, labels), classifier, distance = cifar10_test(100), resnet32(name), alexnet_distance()
    result = attack(NeuralPerceptual(distance, BALL))(classifier, images, labels, seeds=torch.arange(100))
    assert accuracy(classifier, result.images, labels) == 0
    assert (numpy_distance(distance.network, images, result.images) <= BALL * (1 + 1e-4)).all()


@every_network
def test_nothing_of_eight_is_left_by_either(name):
    (images, labels), classifier, distance = cifar10_test(8), resnet32(name), alexnet_distance()
    assert [tuple(m.shape[2:]) for m in distance.network.features(images)] == [(7, 7), (3, 3), (1, 1), (1, 1), (1, 1)]
    for attack in ("lpa", "ppgd"):
        result = PERCEPTUAL[attack](NeuralPerceptual(distance, BALL))(classifier, images, labels, seeds=torch.arange(8))
        assert accuracy(classifier, result.images, labels) == 0
        assert (numpy_distance(distance.network, images, result.images) <= BALL * (1 + 1e-4)).all()
