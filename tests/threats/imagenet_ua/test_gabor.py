"""Gabor of ImageNet-UA beside the formula of its kernel and scipy's correlation."""

import math

import numpy as np
import pytest
import torch
from scipy import signal

from gauntlet.noise import Noise
from gauntlet.threats import UAGabor
from tests.fixtures import batch_of, photographs, random_images
from tests.networks import cifar10
from tests.threats.imagenet_ua.checks import DOUBLE, check, wild

CIFAR, IMAGENET = UAGabor(0.03, 3), UAGabor(0.04, 5)


def reference_kernel(sides, drawn):
    """Σ_k w_k · exp(−½ (a² + b²) / (σ + .001)²) · cos(2πΛa) on [−½, ½]², w = 1, 1/sides, …; a at θ + kπ/sides."""
    noise = drawn.stream(0)
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
    drawn, x = Noise(params[:, 0].long()), images[0].numpy()
    sparse = params[0, 1:].numpy() * (drawn.stream(1).uniform((1, x.size)) < 0.1)[0].numpy()
    kernel = reference_kernel(threat.sides, drawn)
    noise = np.stack([signal.correlate2d(plane, kernel, mode="same") for plane in sparse.reshape(x.shape)])
    ours = region.perturb(params)[0].numpy()
    np.testing.assert_allclose(ours, x + noise.clip(-x, 1 - x), atol=1e-5)
    assert np.abs(ours - x).mean() > 0.02


def test_it_keeps_its_promises():
    check(UAGabor(0.03, 3, kernel=5, density=0.5), channels=(1, 2, 3))


def test_the_start_is_one_positive_number_at_a_tenth_of_the_positions():
    region = CIFAR.around(batch_of(random_images(20, 3, 32, 32)))
    start = region.start(Noise(torch.arange(20)))[:, 1:]
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
    assert (region.project(torch.ones_like(start))[:, 1:] != 0).double().mean() < 0.12


def test_the_kernel_stays_along_a_search():
    """The authors draw it anew at every step; here the image is a function of the params."""
    region = CIFAR.around(batch_of(random_images(2, 3, 32, 32)))
    params = region.project(region.ascend(region.start(Noise(torch.arange(2))), torch.ones(2, 3073), 1.0))
    assert region.perturb(params).equal(region.perturb(params))
    assert region.rows(torch.tensor([1])).perturb(params[1:]).allclose(region.perturb(params)[1:])
