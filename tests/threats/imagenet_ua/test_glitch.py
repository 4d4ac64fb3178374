"""Glitch of ImageNet-UA beside torch's grid_sample."""

import pytest
import torch
from torch.nn import functional as F

from gauntlet.threats import UAGlitch
from tests.fixtures import batch_of, photographs
from tests.networks import cifar10
from tests.threats.imagenet_ua.checks import DOUBLE, check, shown, wild


def reference(images, shifts):
    """Every channel sampled at (2j/W − 1 + shift of its line, 2i/H − 1), mirrored at the edges, as in their code."""
    count, channels, height, width = images.shape
    lines = shifts.repeat_interleave(height // shifts.shape[2], 2)[..., None]
    x = (2 * torch.arange(width, dtype=DOUBLE) / width - 1).expand(count, channels, height, width) + lines
    y = (2 * torch.arange(height, dtype=DOUBLE) / height - 1)[:, None].expand_as(x)
    planes, grid = images.reshape(-1, 1, height, width), torch.stack((x, y), -1).reshape(-1, height, width, 2)
    return F.grid_sample(planes, grid, padding_mode="reflection", align_corners=False).reshape(images.shape)


def half_a_pixel(images):
    """The documented zero image: the mean of a pixel and its neighbours to the left and above; edges go on."""
    left = torch.cat((images[..., :1], images[..., :-1]), 3)
    across = (images + left) / 2
    above = torch.cat((across[:, :, :1], across[:, :, :-1]), 2)
    return (across + above) / 2


def test_it_keeps_its_promises():
    check(UAGlitch(0.05, 3), zero_image=half_a_pixel, channels=(1, 2, 3))


@pytest.mark.parametrize(("size", "lines"), [(224, 56), (32, 16)])
@pytest.mark.parametrize("bound", [0.05, 5.0])
def test_a_photograph_is_shifted_as_by_grid_sample(size, lines, bound):
    """Also by shifts beyond several mirrors."""
    images = (photographs(2, size) if size == 224 else cifar10(2)[0]).to(DOUBLE)
    region = UAGlitch(bound, lines).around(batch_of(images))
    params = region.project(wild(region))
    ours = region.perturb(params)
    assert ours.allclose(reference(images, params), rtol=0, atol=1e-9)
    assert (ours - images).abs().mean() > 0.01


def test_without_a_shift_a_photograph_moves_by_half_a_pixel():
    images = photographs(1, 224)
    threat = UAGlitch(0.05, 56)
    assert shown(threat, images, threat.around(batch_of(images)).zero()).allclose(half_a_pixel(images), atol=1e-5)


def test_lines_need_not_divide_the_height():
    region = UAGlitch(0.05, 4).around(batch_of(torch.rand(1, 3, 9, 8)))
    shifts = region.zero()
    shifts[0, :, 3] = 0.05
    moved = (region.perturb(shifts) != region.perturb(region.zero())).any(3).any(1)[0]
    assert moved.tolist() == [False] * 7 + [True] * 2
