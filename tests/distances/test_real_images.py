"""The distance on ImageNet's AlexNet and real photographs, beside plain formulas."""

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from gauntlet.config.compose import CONF
from gauntlet.config.instantiate import instantiate
from gauntlet.distances import LPIPS
from gauntlet.models import alexnet, imagenet_features
from tests.fixtures import imagenet_alexnet_features, photographs, shared_data


def plain_alexnet(weights, images):
    """The five ReLU maps of AlexNet (Krizhevsky 2014) from its weights, in float64."""
    w = {name: tensor.double() for name, tensor in weights.items()}
    mean, std = (
        torch.tensor(c, dtype=torch.float64)[:, None, None] for c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    one = F.conv2d(
        (images.double() - mean) / std, w["features.0.weight"], w["features.0.bias"], stride=4, padding=2
    ).relu()
    two = F.conv2d(F.max_pool2d(one, 3, 2), w["features.3.weight"], w["features.3.bias"], padding=2).relu()
    three = F.conv2d(F.max_pool2d(two, 3, 2), w["features.6.weight"], w["features.6.bias"], padding=1).relu()
    four = F.conv2d(three, w["features.8.weight"], w["features.8.bias"], padding=1).relu()
    five = F.conv2d(four, w["features.10.weight"], w["features.10.bias"], padding=1).relu()
    return [layer.numpy() for layer in (one, two, three, four, five)]


def plain_phi(maps):
    """Laidlaw et al. 2021, §3."""
    units = [m / (np.sqrt((m**2).sum(1, keepdims=True)) + 1e-10) / np.sqrt(m.shape[2] * m.shape[3]) for m in maps]
    return np.concatenate([unit.reshape(len(unit), -1) for unit in units], 1)


@pytest.fixture(scope="module")
def weights():
    return imagenet_alexnet_features()


@pytest.fixture(scope="module")
def distance(weights):
    network = alexnet(classes=2)
    features = {name.removeprefix("features."): tensor for name, tensor in weights.items()}
    network.network.features.load_state_dict(features)
    return LPIPS(network)


def changes(images):
    """From barely visible to another photograph."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return {
        "noise of 1/255": (images + noise / 255).clamp(0, 1),
        "noise of 0.1": (images + 0.1 * noise).clamp(0, 1),
        "blur": F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), 5, 1),
        "brighter": (images * 1.3).clamp(0, 1),
        "the next photograph": images.roll(1, 0),
        "black": torch.zeros_like(images),
    }


@pytest.mark.parametrize("size", [224, 97])
def test_phi_and_d_equal_plain_formulas_on_photographs(distance, weights, size):
    images = photographs(2, size)
    clean = plain_phi(plain_alexnet(weights, images))
    for name, others in changes(images).items():
        changed = plain_phi(plain_alexnet(weights, others))
        with torch.no_grad():
            ours = torch.cat([layer.flatten(1) for layer in distance.embed(others)], 1).numpy()
            d = distance(images, others).double().numpy()
        assert np.abs(ours - changed).max() < 1e-5, name
        assert np.allclose(d, np.sqrt(((clean - changed) ** 2).sum(1)), rtol=1e-5, atol=1e-5), name


def test_phi_of_a_photograph_is_at_most_the_root_of_5_long(distance):
    with torch.no_grad():
        embedding = distance.embed(photographs(2, 224))
    lengths = sum(layer.square().sum((1, 2, 3)) for layer in embedding)
    assert sum(layer[0].numel() for layer in embedding) == 484_992
    assert (lengths <= 5 + 1e-4).all()
    assert (lengths > 4.5).all()


def test_more_noise_is_farther_and_another_photograph_is_farthest(distance):
    images = photographs(2, 97)
    with torch.no_grad():
        d = {name: distance(images, others) for name, others in changes(images).items()}
    assert (d["noise of 1/255"] < d["noise of 0.1"]).all()
    assert (d["noise of 0.1"] < d["the next photograph"]).all()
    assert (d["the next photograph"] < 10**0.5).all()


def test_d_squared_is_the_baseline_lpips_of_the_lpips_package():
    """Their `lpips=False`: no learned weights. Theirs is not a root; its input scaling in [−1, 1] is ImageNet's."""
    import lpips

    file = shared_data("weights", "lpips", "alexnet_features_torchvision_v1.npz")
    ours = LPIPS(imagenet_features("alexnet", [f"features.{i}" for i in (1, 4, 7, 9, 11)], file))
    theirs = lpips.LPIPS(net="alex", lpips=False, pnet_rand=True, verbose=False).eval().double()
    for part in theirs.net.children():
        part.load_state_dict({name: imagenet_alexnet_features()[f"features.{name}"] for name in part.state_dict()})
    ours.network.double()
    images = photographs(3, 160).double()
    for name, others in changes(images).items():
        with torch.no_grad():
            expected = theirs(images, others.double(), normalize=True).flatten()
            assert (ours(images, others.double()) ** 2 - expected).abs().max() < 1e-5, name


def test_squeezenets_weights_are_read_and_see_more_noise_as_farther():
    node = yaml.safe_load((CONF / "distance" / "lpips_squeeze.yaml").read_text())
    node["network"]["weights"] = str(shared_data("weights", "lpips", "squeezenet1_1_features_torchvision_v1.npz"))
    squeeze, images = instantiate(node), photographs(2, 97)
    with torch.no_grad():
        d = {name: squeeze(images, others) for name, others in changes(images).items()}
    assert (d["noise of 1/255"] < d["noise of 0.1"]).all()
    assert (d["noise of 0.1"] < d["the next photograph"]).all()
