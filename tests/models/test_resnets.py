"""The networks of the papers: their sizes, their feature maps, their first weights, torchvision's to the last bit."""

import pytest
import torch
import torchvision.models
from torch import nn

from gauntlet.models import (
    Tapped,
    resnet18,
    resnet18_imagenet,
    resnet20,
    resnet32,
    resnet34,
    resnet34_imagenet,
    resnet50,
    resnet50_imagenet,
    wide_resnet,
)
from tests.fixtures import random_images

GRAY = {"mean": [0.5], "std": [0.25]}
PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def halving(channels, side):
    return [(width, side >> i, side >> i) for i, width in enumerate(channels)]


@pytest.mark.parametrize(
    ("build", "size", "shapes", "length"),
    [
        (resnet18, 32, halving((64, 128, 256, 512), 32), 122_880),
        (resnet34, 32, halving((64, 128, 256, 512), 32), 122_880),
        (resnet50, 32, halving((256, 512, 1024, 2048), 32), 491_520),
        (resnet18_imagenet, 224, halving((64, 128, 256, 512), 56), 376_320),
        (resnet34_imagenet, 224, halving((64, 128, 256, 512), 56), 376_320),
        (resnet50_imagenet, 224, halving((256, 512, 1024, 2048), 56), 1_505_280),
        (resnet20, 32, halving((16, 32, 64), 32), 28_672),
        (resnet32, 32, halving((16, 32, 64), 32), 28_672),
        (wide_resnet, 32, halving((160, 320, 640), 32), 286_720),
    ],
)
def test_feature_maps_have_the_sizes_of_the_paper(build, size, shapes, length):
    network = build(10).eval()
    with torch.no_grad():
        maps, logits = network.tap(random_images(1, 3, size, size))
    assert isinstance(network, Tapped)
    assert [tuple(layer.shape[1:]) for layer in maps] == shapes
    assert sum(layer.numel() for layer in maps) == length
    assert logits.shape == (1, 10)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("build", "millions"),
    [
        (resnet20, 0.270),
        (resnet32, 0.464),
        (resnet18, 11.174),
        (resnet34, 21.282),
        (resnet50, 23.521),
        (wide_resnet, 46.160),
    ],
)
def test_they_have_the_parameters_of_the_papers(build, millions):
    """He et al. 2016 table 6: 0.27 and 0.46 million; Zagoruyko & Komodakis 2016: 46.2 million for WRN-34-10."""
    assert round(parameters(build(10)) / 1e6, 3) == pytest.approx(millions, abs=0.001)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_the_large_stem_is_torchvisions(name):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    build = {"resnet18": resnet18_imagenet, "resnet34": resnet34_imagenet, "resnet50": resnet50_imagenet}[name]
    ours = build(7, **PLAIN).eval()
    ours.network.load_state_dict(theirs.state_dict())
    images = random_images(2, 3, 65, 50)
    with torch.no_grad():
        assert ours(images).equal(theirs(images))


def test_the_small_stem_is_torchvisions_behind_a_3x3_convolution():
    ours = resnet18(7, **PLAIN).eval()
    theirs = torchvision.models.resnet18(weights=None, num_classes=7).eval()
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    theirs.load_state_dict(ours.network.state_dict())
    images = random_images(2, 3, 13, 18)
    with torch.no_grad():
        assert ours(images).equal(theirs(images))


def test_a_small_stem_starts_with_pytorchs_own_weights():
    """Uniform within 1/√fan_in, as the paper's library leaves them; torchvision draws normal ones."""
    torch.manual_seed(0)
    weight = resnet18(2).network.layer4[1].conv2.weight
    edge = (512 * 9) ** -0.5
    assert 0.999 * edge < weight.abs().max() <= edge
    assert weight.std().item() == pytest.approx(edge / 3**0.5, rel=0.01)


@pytest.mark.parametrize(
    "build", [resnet18, resnet18_imagenet, resnet20, lambda *a, **k: wide_resnet(*a, **k, depth=10, width=1)]
)
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_grayscale_and_odd_sizes(build, batch):
    network = build(3, **GRAY).eval()
    with torch.no_grad():
        assert network(random_images(batch, 1, 33, 31)).shape == (batch, 3)
        with pytest.raises(ValueError, match="3 channels, this network expects 1"):
            network(random_images(1, 3, 33, 31))


def test_shortcuts_without_parameters_are_every_second_position_between_zeros():
    """He et al. §4.2, option A; the zeros lie on both sides, as in the networks people share."""
    network = resnet20(10).eval()
    shortcut = network.network.layer2[0].downsample
    maps = random_images(2, 16, 5, 6)
    out = shortcut(maps)
    assert out.shape == (2, 32, 3, 3)
    assert out[:, 8:24].equal(maps[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()
    assert not list(shortcut.parameters())


def test_a_wide_block_is_activated_before_its_convolutions_and_its_projection():
    network = wide_resnet(3, depth=10, width=2).eval()
    block, images = network.network.block1[0], random_images(2, 16, 6, 7) - 0.5
    for norm in (block.bn1, block.bn2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    with torch.no_grad():
        active = block.bn1(images).clamp(min=0)
        expected = block.shortcut(active) + block.conv2(block.bn2(block.conv1(active)).clamp(min=0))
        assert block(images).equal(expected)
    deep = wide_resnet(3, depth=16, width=1).network.block1[1].eval()
    with torch.no_grad():
        nn.init.zeros_(deep.conv2.weight)
        assert deep(images).equal(images)  # the identity passes by everything


@pytest.mark.parametrize(("depth", "width"), [(33, 10), (4, 1), (-2, 1), (34, 0)])
def test_impossible_wide_networks_are_refused(depth, width):
    with pytest.raises(ValueError, match=r"6 n \+ 4"):
        wide_resnet(10, depth=depth, width=width)
