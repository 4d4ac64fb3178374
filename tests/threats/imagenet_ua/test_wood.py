"""Wood of ImageNet-UA beside its formula, and its gradient at the centre, where the authors' has none."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gauntlet.threats import UAWood
from tests.fixtures import batch_of, photographs
from tests.networks import cifar10
from tests.threats.imagenet_ua.checks import DOUBLE, check, wild

CIFAR, IMAGENET = UAWood(0.05, 16, 5), UAWood(0.05, 32, 4)


def reference(images, changes, rings):
    """x · |sin(π · rings · d)|^(1/8), d = √(X² + Y²) + the change, X = 2 (x − W/2) / W; the published formula."""
    height, width = images.shape[2:]
    x = 2 * (np.arange(width) - width / 2) / width
    y = 2 * (np.arange(height) - height / 2) / height
    distance = np.sqrt(x[None] ** 2 + y[:, None] ** 2)
    distance = distance + F.interpolate(changes, (height, width), mode="bilinear").numpy()
    return (images.numpy() * np.abs(np.sin(math.pi * rings * distance)) ** (1 / 8)).clip(0, 1)


def round_rings(images):
    """The documented zero image, with what keeps the slope finite."""
    height, width = images.shape[2:]
    x, y = (2 * torch.arange(side) / side - 1 for side in (width, height))
    wave = (math.pi * 5 * (x**2 + y[:, None] ** 2).sqrt().double()).sin().abs()
    return images * ((wave + 1e-6) ** 0.125).to(images)


def test_it_keeps_its_promises():
    check(UAWood(0.05, 4, 5), zero_image=round_rings, channels=(1, 2, 3))


@pytest.mark.parametrize(("threat", "size"), [(IMAGENET, 224), (CIFAR, 32)])
def test_a_photograph_has_the_rings_of_the_formula(threat, size):
    images = (photographs(2, size) if size == 224 else cifar10(2)[0]).to(DOUBLE)
    region = threat.around(batch_of(images))
    params = region.project(wild(region))
    ours = region.perturb(params).numpy()
    theirs = reference(images, params, threat.rings)
    assert np.abs(ours - theirs).mean() < 2e-4
    dark = theirs < 0.3 * images.numpy()  # where 1e-6 under the root counts: it lifts 0 to 0.18 of the pixel
    np.testing.assert_allclose(ours[~dark], theirs[~dark], atol=2e-3)
    assert (np.abs(ours - theirs)[dark] <= 0.18 * images.numpy()[dark]).all()


@pytest.mark.parametrize("threat", [CIFAR, IMAGENET])
def test_the_gradient_at_the_centre_is_finite_and_all_of_the_grid_moves(threat):
    """There d is 0 at the start, and the root has no slope. The four numbers around it have a gradient all the same."""
    side = 32 if threat is CIFAR else 224
    region = threat.around(batch_of(torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))))
    params = region.zero().requires_grad_()
    shown = region.perturb(params)
    (gradient,) = torch.autograd.grad(shown.square().sum(), params)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()
    (at_centre,) = torch.autograd.grad(region.perturb(params)[:, :, side // 2, side // 2].sum(), params)
    assert at_centre.isfinite().all()


def test_a_search_starts_at_round_rings():
    region = CIFAR.around(batch_of(torch.rand(2, 3, 32, 32)))
    assert region.start(None).equal(region.zero())
