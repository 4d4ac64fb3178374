"""Elastic of ImageNet-UA beside torch's grid_sample."""

import pytest
import torch
from torch.nn import functional as F

from gauntlet.noise import Noise
from gauntlet.threats import UAElastic
from tests.fixtures import batch_of, photographs
from tests.networks import cifar10
from tests.threats.imagenet_ua.checks import DOUBLE, check, shown, wild


def reference(images, field, upsampling):
    """A field enlarged bicubically, added to a grid from −1 to 1 and sampled, zeros outside, as in their code."""
    height, width = images.shape[2:]
    grid = torch.meshgrid(*(torch.linspace(-1, 1, side, dtype=DOUBLE) for side in (height, width)), indexing="ij")
    flow = F.interpolate(field, scale_factor=upsampling, mode="bicubic").permute(0, 2, 3, 1)
    return F.grid_sample(images, torch.stack((grid[1], grid[0]), -1) + flow, align_corners=False)


def unmoved(images):
    """The documented zero image, by another formula: every axis sampled at j · n / (n − 1) − ½, black beyond."""
    for axis in (2, 3):
        count = images.shape[axis]
        at = torch.arange(count, dtype=images.dtype) * count / (count - 1) - 0.5
        weights = (1 - (at[:, None] - torch.arange(count)).abs()).clamp(min=0).to(images)
        images = torch.tensordot(images, weights.T, ([axis], [0])).movedim(-1, axis)
    return images


def test_it_keeps_its_promises():
    check(UAElastic(0.25, 2), zero_image=unmoved, channels=(1, 2, 3))


@pytest.mark.parametrize(("size", "upsampling"), [(224, 32), (32, 2)])
def test_a_photograph_moves_as_by_grid_sample(size, upsampling):
    threat = UAElastic(0.25, upsampling)
    images = (photographs(2, size) if size == 224 else cifar10(2)[0]).to(DOUBLE)
    region = threat.around(batch_of(images))
    params = region.project(wild(region))
    ours = region.perturb(params)
    assert params.shape[2:] == (size // upsampling, size // upsampling)
    assert ours.allclose(reference(images, params, upsampling), rtol=0, atol=1e-9)
    assert (ours - images).abs().mean() > 0.01


def test_without_displacement_a_photograph_is_enlarged_by_half_a_pixel_at_each_edge():
    images = photographs(1, 224).to(DOUBLE)
    threat = UAElastic(0.25, 32)
    assert shown(threat, images, threat.around(batch_of(images)).zero()).allclose(unmoved(images), rtol=0, atol=1e-9)


def test_sides_that_are_no_multiple_have_a_field_that_reaches_beyond():
    region = UAElastic(0.25, 4).around(batch_of(torch.rand(1, 3, 9, 8)))
    assert region.zero().shape == (1, 2, 3, 2)
    assert region.perturb(region.start(Noise(torch.arange(1)))).shape == (1, 3, 9, 8)


def test_a_search_starts_on_the_ball_where_the_field_is_large():
    region = UAElastic(0.25, 2).around(batch_of(torch.rand(2, 3, 32, 32)))
    assert region.size(region.start(Noise(torch.arange(2)))).allclose(torch.ones(2))


def test_a_coarseness_of_0_is_refused():
    with pytest.raises(ValueError, match="upsampling 0: expected a positive number"):
        UAElastic(0.25, 0)
