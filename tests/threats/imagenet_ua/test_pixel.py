"""Pixel of ImageNet-UA beside a loop over blocks."""

import numpy as np
import pytest
import torch

from gauntlet.noise import Noise
from gauntlet.threats import UAPixel
from tests.fixtures import batch_of, photographs
from tests.networks import cifar10
from tests.threats.imagenet_ua.checks import DOUBLE, check, wild


def reference(image, blend, block):
    """Per block and channel (1 − v) · x + v · q, q the block's top left pixel."""
    changed = image.copy()
    for c, i, j in np.ndindex(*blend.shape):
        where = np.s_[c, block * i : block * (i + 1), block * j : block * (j + 1)]
        changed[where] = (1 - blend[c, i, j]) * image[where] + blend[c, i, j] * image[c, block * i, block * j]
    return changed


def test_it_keeps_its_promises():
    check(UAPixel(2.0, 2), channels=(1, 2, 3))


@pytest.mark.parametrize(("size", "block"), [(224, 16), (32, 4), (32, 5)])
def test_a_photograph_is_blended_block_by_block(size, block):
    images = (photographs(2, size) if size == 224 else cifar10(2)[0]).to(DOUBLE)
    region = UAPixel(5.0, block).around(batch_of(images))
    params = region.project(wild(region).abs())
    assert params.shape[2:] == (-(-size // block),) * 2
    for image, blend, ours in zip(images.numpy(), params.numpy(), region.perturb(params).numpy(), strict=True):
        np.testing.assert_allclose(ours, reference(image, blend, block), atol=1e-12)


def test_the_start_is_a_uniform_share_of_the_bound():
    region = UAPixel(5.0, 4).around(batch_of(torch.rand(400, 3, 32, 32)))
    start = region.start(Noise(torch.arange(400)))
    assert ((start >= 0) & (start <= 1)).all()
    sizes = region.size(start).sort().values
    assert (sizes - torch.linspace(0, 1, 400)).abs().max() < 0.1


def test_a_bound_of_the_number_of_blocks_reaches_their_corners():
    images = torch.rand(1, 1, 4, 4)
    region = UAPixel(4.0, 2).around(batch_of(images))
    full = region.project(torch.ones(1, 1, 2, 2))
    assert full.eq(1).all()
    assert region.perturb(full).equal(images[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
