"""Networks: shapes, taps that agree with the forward, normalisation inside, torchvision's AlexNet to the last bit."""

from itertools import pairwise

import pytest
import torch
import torchvision.models
from torch import nn

from gauntlet.models import Normalise, Tapped, alexnet, alexnet_cifar, linear, small_resnet
from tests.fixtures import random_images, tapped

GRAY = {"mean": [0.5], "std": [0.25]}
COLOUR = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
BUILDS = {
    "alexnet": (lambda: alexnet(classes=7), (3, 63, 65)),
    "alexnet_cifar": (lambda: alexnet_cifar(classes=7), (3, 32, 32)),
    "small_resnet": (lambda: small_resnet(7, **COLOUR, width=4), (3, 17, 12)),
    "gray small_resnet": (lambda: small_resnet(7, **GRAY, width=4, blocks=2), (1, 8, 8)),
    "tapped": (lambda: tapped(classes=7), (3, 5, 8)),
}


@pytest.fixture(scope="module", params=BUILDS)
def network_and_images(request):
    build, shape = BUILDS[request.param]
    return build().eval(), random_images(2, *shape)


def test_logits_are_one_row_an_image_and_one_column_a_class(network_and_images):
    network, images = network_and_images
    assert network(images).shape == (2, 7)
    assert network(images[:0]).shape == (0, 7)


def test_the_taps_and_the_logits_come_from_the_same_forward(network_and_images):
    network, images = network_and_images
    maps, logits = network.tap(images)
    assert isinstance(network, Tapped)
    assert logits.equal(network(images))
    assert all(one.equal(other) for one, other in zip(maps, network.features(images), strict=True))


def test_feature_maps_are_behind_a_relu(network_and_images):
    network, images = network_and_images
    assert all((layer >= 0).all() and (layer > 0).any() for layer in network.features(images))


def test_a_wrong_number_of_channels_is_named(network_and_images):
    network, images = network_and_images
    with pytest.raises(ValueError, match="2 channels, this network expects"):
        network(images[:, :1].repeat(1, 2, 1, 1))


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation():
    images = random_images(2, 3, 4, 5)
    expected = torch.stack([(images[:, c] - COLOUR["mean"][c]) / COLOUR["std"][c] for c in range(3)], 1)
    assert Normalise(**COLOUR)(images).allclose(expected)


def test_normalisation_is_part_of_the_weights_and_not_trained():
    network = tapped()
    assert {"normalise.mean", "normalise.std"} <= network.state_dict().keys()
    assert not any(name.startswith("normalise") for name, _ in network.named_parameters())


def test_linear_is_a_linear_function_of_the_normalised_pixels():
    network = linear(5, (3, 4, 6), **COLOUR)
    images = random_images(3, 3, 4, 6)
    pixels = (
        (images - torch.tensor(COLOUR["mean"])[:, None, None]) / torch.tensor(COLOUR["std"])[:, None, None]
    ).flatten(1)
    expected = pixels @ network.network[1].weight.T + network.network[1].bias
    assert network(images).allclose(expected, atol=1e-6)
    assert not isinstance(network, Tapped)


def test_alexnet_is_torchvisions():
    """The same weights under torchvision's names give the same logits, and φ is read after each ReLU."""
    ours = alexnet(classes=10).eval()
    theirs = torchvision.models.alexnet(weights=None, num_classes=10).eval()
    ours.network.load_state_dict(theirs.state_dict())

    images = random_images(2, 3, 95, 80)
    current = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    with torch.no_grad():
        assert ours(images).equal(theirs(current))
        relus = []
        for part in theirs.features:
            current = part(current)
            relus += [current.clone()] if isinstance(part, nn.ReLU) else []
        assert all(own.equal(relu) for own, relu in zip(ours.features(images), relus, strict=True))


def test_alexnets_feature_lengths_are_the_papers():
    """484,992 floats an image at 224×224, 43,008 at 32×32."""
    shapes = [(64, 55, 55), (192, 27, 27), (384, 13, 13), (256, 13, 13), (256, 13, 13)]
    small = [(64, 16, 16), (192, 8, 8), (384, 4, 4), (256, 4, 4), (256, 4, 4)]
    with torch.no_grad():
        maps, cifar = (
            alexnet(2).features(torch.zeros(1, 3, 224, 224)),
            alexnet_cifar(2).features(torch.zeros(1, 3, 32, 32)),
        )
    assert [tuple(layer.shape[1:]) for layer in maps] == shapes
    assert sum(layer.numel() for layer in maps) == 484_992
    assert [tuple(layer.shape[1:]) for layer in cifar] == small
    assert sum(layer.numel() for layer in cifar) == 43_008


def test_the_cifar_alexnet_has_the_parameters_of_the_paper():
    """Convolutions 64, 192, 384, 256, 256 of 3×3 and a head 1024 → 4096 → 4096 → 10."""
    widths = [3, 64, 192, 384, 256, 256]
    expected = sum(9 * a * b + b for a, b in pairwise(widths))
    expected += 1024 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 10 + 10
    assert sum(parameter.numel() for parameter in alexnet_cifar(10).parameters()) == expected


@pytest.mark.parametrize(("call", "smallest"), [("features", 31), ("forward", 63)])
def test_alexnet_takes_images_from_the_documented_size_on(call, smallest):
    network = alexnet(2).eval()
    with torch.no_grad():
        getattr(network, call)(torch.zeros(1, 3, smallest, smallest))
        with pytest.raises(RuntimeError, match="too small"):
            getattr(network, call)(torch.zeros(1, 3, smallest - 1, smallest - 1))


def test_a_resnets_stages_halve_and_double():
    maps = small_resnet(3, **GRAY, width=4, blocks=2).eval().features(torch.zeros(1, 1, 16, 24))
    assert [tuple(layer.shape[1:]) for layer in maps] == [(4, 8, 12), (8, 4, 6), (16, 2, 3)]


def test_a_resnet_in_eval_mode_treats_every_example_alone():
    network = small_resnet(3, **COLOUR, width=4).double()
    network(random_images(8, 3, 8, 8, seed=1, dtype=torch.float64))  # moves the running statistics
    network.eval()
    images = random_images(4, 3, 8, 8, dtype=torch.float64)
    assert network(images)[2:3].allclose(network(images[2:3]), rtol=0, atol=1e-12)
