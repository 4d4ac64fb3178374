"""Channels last changes what a pass costs and no result; convolutions that the libraries get wrong in it are spared."""

import copy

import pytest
import torch
from torch import nn

from gauntlet.acceleration import channels_last
from gauntlet.models import small_resnet
from tests.fixtures import random_images

LAST = torch.channels_last


def built(width):
    torch.manual_seed(0)
    return small_resnet(3, [0.5] * 3, [0.2] * 3, width)


def shortcuts(network):
    return [part for part in network.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1)]


def seen_by(parts, network, images):
    """Whether each was shown maps that lie channels last."""
    seen = []
    handles = [part.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for part in parts]
    network(images)
    for handle in handles:
        handle.remove()
    return [maps.is_contiguous(memory_format=LAST) for maps in seen]


def gradients(network, images):
    network.zero_grad()
    network(images).square().sum().backward()
    return [part.grad.double() for part in network.parameters()]


@pytest.mark.parametrize(("width", "spared"), [(4, [True, True]), (8, [True, False]), (16, [False, False])])
def test_strided_1x1_convolutions_of_few_channels_are_trained_in_the_plain_layout(width, spared):
    network, images = channels_last(built(width)), random_images(2, 3, 16, 16)
    assert seen_by(shortcuts(network), network, images) == [not one for one in spared]
    assert [part.weight.stride()[2] == 1 for part in shortcuts(network)] == spared
    with torch.no_grad():
        assert all(seen_by(shortcuts(network), network, images))
    network.requires_grad_(False)
    assert all(seen_by(shortcuts(network), network, images.requires_grad_(True)))
    assert network.network.conv1.weight.is_contiguous(memory_format=LAST)
    copied = copy.deepcopy(network).requires_grad_(True)
    assert seen_by(shortcuts(copied), copied, images) == [not one for one in spared]


@pytest.mark.parametrize("size", [1, 2, 64])  # maps of one pixel have the strides of both layouts
@pytest.mark.parametrize("width", [3, 4, 12])
def test_gradients_of_few_channels_are_those_of_double_precision(width, size):
    torch.manual_seed(0)
    network = channels_last(nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 8, 1, stride=2)))
    images = random_images(32, 3, size, size)
    exact = gradients(copy.deepcopy(network).double(), images.double())
    for some in (images, images.contiguous(memory_format=LAST)):
        for one, other in zip(gradients(network, some), exact, strict=True):
            assert one.allclose(other, rtol=1e-4, atol=1e-4 * other.abs().max())
