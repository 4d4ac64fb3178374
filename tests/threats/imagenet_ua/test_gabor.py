"""Gabor of ImageNet-UA beside the formula of its kernel and scipy's correlation."""

import math

import numpy as np
import pytest
import torch
from scipy import signal

from gauntlet.attacks import PGD, Last, Redrawn, Sign
from gauntlet.goals import Untargeted
from gauntlet.losses import CrossEntropy
from gauntlet.noise import Noise
from gauntlet.threats import Linf, UAGabor
from tests.fixtures import batch_of, photographs, predictions, random_images, tapped
from tests.networks import cifar10, resnet32
from tests.threats.imagenet_ua.checks import DOUBLE, check, wild

CIFAR, IMAGENET = UAGabor(0.03, 3), UAGabor(0.04, 5)


def reference_kernel(sides, noise):
    """Σ_k w_k · exp(−½ (a² + b²) / (σ + .001)²) · cos(2πΛa) on [−½, ½]², w = 1, 1/sides, …; a at θ + kπ/sides."""
    theta = math.pi * float(noise.uniform((1, 1, 1, 1)))
    frequency = float(noise.uniform((1, 1, 1, 1), 3, 5.75, draw=1))
    y, x = np.meshgrid(*[np.linspace(-0.5, 0.5, 23)] * 2, indexing="ij")
    kernel = np.zeros((23, 23))
    for k in range(sides):
        angle = theta + k * math.pi / sides
        a, b = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)
        wave = np.exp(-0.5 * (a**2 + b**2) / 3.001**2) * np.cos(2 * math.pi * frequency * a)
        kernel += wave * (1 if k == 0 else 1 / sides)
    return kernel


@pytest.mark.parametrize("threat", [CIFAR, IMAGENET])
def test_a_photograph_has_the_noise_of_the_formula(threat):
    images = (photographs(1, 224) if threat is IMAGENET else cifar10(1)[0]).to(DOUBLE)
    region = threat.around(batch_of(images))
    params = region.project(wild(region, seed=5))
    positions, waves = (Noise(params[:, i].long()) for i in range(2))
    x = images[0].numpy()
    sparse = params[0, 2:].numpy() * (positions.uniform((1, x.size)) < 0.1)[0].numpy()
    kernel = reference_kernel(threat.sides, waves)
    noise = np.stack([signal.correlate2d(plane, kernel, mode="same") for plane in sparse.reshape(x.shape)])
    ours = region.perturb(params)[0].numpy()
    np.testing.assert_allclose(ours, x + noise.clip(-x, 1 - x), atol=1e-5)
    assert np.abs(ours - x).mean() > 0.02


def test_it_keeps_its_promises():
    check(UAGabor(0.03, 3, kernel=5, density=0.5), channels=(1, 2, 3))


def test_the_start_is_one_positive_number_at_a_tenth_of_the_positions():
    region = CIFAR.around(batch_of(random_images(20, 3, 32, 32)))
    start = region.variables(region.start(Noise(torch.arange(20))))
    assert 0.09 < (start != 0).double().mean() < 0.11
    for row in start:
        assert len(row[row != 0].unique()) == 1
    levels = start.amax(1)
    assert (levels > 0).all()
    assert levels.max() <= 0.03
    assert levels.std() > 0.004


def test_what_is_not_drawn_does_not_move():
    region = CIFAR.around(batch_of(random_images(2, 3, 32, 32)))
    start = region.start(Noise(torch.arange(2)))
    params = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(region.perturb(params).square().sum(), params)
    assert not gradient[start == 0].any()
    assert (region.variables(region.project(torch.ones_like(start))) != 0).double().mean() < 0.12


def gabor_search(step):
    return PGD(
        threat_model=CIFAR, goal=Untargeted(CrossEntropy()), iterate=Last(), steps=8, step_size=1 / 12, step=step
    )


def test_the_kernel_stays_along_a_search_unless_it_is_redrawn():
    images, labels = random_images(2, 3, 32, 32), torch.zeros(2, dtype=torch.long)
    region = CIFAR.around(batch_of(images))
    start = region.start(Noise(torch.arange(2)))
    kept, redrawn = (
        gabor_search(step)(tapped(), images, labels, seeds=torch.arange(2)).params for step in (Sign(), Redrawn(Sign()))
    )
    assert kept[:, :2].equal(start[:, :2])
    assert redrawn[:, 0].equal(start[:, 0])
    assert (redrawn[:, 1] != start[:, 1]).all()
    assert redrawn[0, 1] != redrawn[1, 1]
    again = gabor_search(Redrawn(Sign()))(tapped(), images[1:], labels[1:], seeds=torch.tensor([1])).params
    assert again[:, :2].equal(redrawn[1:, :2])


@pytest.mark.slow
def test_a_kernel_that_stays_is_far_stronger():
    """One kernel can be met by numbers of one sign pattern; many cannot."""
    (images, labels), classifier = cifar10(30), resnet32("delta")
    left = []
    for step in (Sign(), Redrawn(Sign())):
        result = gabor_search(step)(classifier, images, labels, seeds=torch.arange(30))
        left.append((predictions(classifier, result.images) == labels).double().mean())
    assert left[0] + 0.2 < left[1]


def test_what_has_nothing_drawn_cannot_be_redrawn():
    attack = PGD(threat_model=Linf(0.1), steps=1, step=Redrawn())
    with pytest.raises(TypeError, match="LinfRegion has nothing that is drawn: use the step itself, such as Sign"):
        attack(tapped(), random_images(1, 3, 8, 8), torch.zeros(1, dtype=torch.long))
