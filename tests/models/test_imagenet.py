"""Perceptual networks: the file's weights under torchvision's names, at the layers of LPIPS, without a head."""

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from gauntlet.config.compose import CONF
from gauntlet.config.instantiate import instantiate
from gauntlet.errors import UserError
from gauntlet.models import imagenet_features
from tests.fixtures import random_images

RELUS = {"alexnet": [f"features.{i}" for i in (1, 4, 7, 9, 11)]}
SIZES = {
    "lpips_alexnet": [(64, 55, 55), (192, 27, 27), (384, 13, 13), (256, 13, 13), (256, 13, 13)],
    "lpips_vgg": [(64, 224, 224), (128, 112, 112), (256, 56, 56), (512, 28, 28), (512, 14, 14)],
    "lpips_squeeze": [
        (64, 111, 111),
        *((128, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (512, 13, 13), (512, 13, 13)),
    ],
}


def some_features(name, seed=0):
    """Random weights for the features of a network, by torchvision's names."""
    with torch.device("meta"):
        shapes = get_model(name, weights=None).state_dict()
    draw = torch.Generator().manual_seed(seed)
    return {n: torch.randn(t.shape, generator=draw) * 0.05 for n, t in shapes.items() if n.startswith("features.")}


@pytest.mark.parametrize("option", SIZES)
def test_the_option_reads_the_layers_of_lpips(tmp_path, option):
    """φ of VGG-16 has 6,121,472 numbers at 224×224, AlexNet's 484,992."""
    node = yaml.safe_load((CONF / "distance" / f"{option}.yaml").read_text())
    weights = some_features(node["network"]["name"])
    save_file(weights, tmp_path / "weights.safetensors")
    node["network"]["weights"] = str(tmp_path / "weights.safetensors")
    distance, images = instantiate(node), random_images(1, 3, 224, 224)
    with torch.no_grad():
        embedding = distance.embed(images)
        current = distance.network.normalise(images)
        theirs = get_model(node["network"]["name"], weights=None).features.eval()
        theirs.load_state_dict({n.removeprefix("features."): t for n, t in weights.items()})
        wanted = []
        for index, part in enumerate(theirs):
            current = part(current)
            wanted += [current.clone()] if f"features.{index}" in node["network"]["taps"] else []
        result = distance.network.features(images)  # channels last: other last bits
        assert all(a.allclose(b, rtol=1e-3, atol=1e-4 * b.max()) for a, b in zip(result, wanted, strict=True))
    assert [tuple(layer.shape[1:]) for layer in embedding] == SIZES[option]
    assert sum(layer.numel() for layer in embedding) == {"lpips_alexnet": 484_992, "lpips_vgg": 6_121_472}.get(
        option, sum(c * h * w for c, h, w in SIZES[option])
    )


def test_a_whole_checkpoint_and_a_converted_one_give_the_same_network(tmp_path):
    features = some_features("alexnet")
    head = {"classifier.1.weight": torch.zeros(4, 4), "classifier.6.bias": torch.zeros(3)}
    torch.save(features, tmp_path / "features.pth")
    torch.save(features | head, tmp_path / "whole.pth")
    normalise = {"normalise.mean": torch.zeros(3, 1, 1)}
    save_file({f"network.{n}": t for n, t in (features | head).items()} | normalise, tmp_path / "ours.safetensors")
    images = random_images(1, 3, 40, 33)
    result = [
        imagenet_features("alexnet", RELUS["alexnet"], tmp_path / name).features(images)
        for name in ("features.pth", "whole.pth", "ours.safetensors")
    ]
    assert all(a.equal(b) and a.equal(c) for a, b, c in zip(*result, strict=True))


def test_the_head_is_never_made(tmp_path):
    save_file(some_features("alexnet"), tmp_path / "weights.safetensors")
    network = imagenet_features("alexnet", RELUS["alexnet"], tmp_path / "weights.safetensors")
    assert sum(p.numel() for p in network.parameters()) == 2_469_696  # of 61 million
    assert not [part for part in network.modules() if isinstance(part, nn.Linear)]


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(some_features("squeezenet1_1"), tmp_path / "squeeze.safetensors")
    with pytest.raises(UserError, match=r"another architecture|does not fit"):
        imagenet_features("alexnet", RELUS["alexnet"], tmp_path / "squeeze.safetensors")
    fewer = {name: tensor for name, tensor in some_features("alexnet").items() if "10" not in name}
    save_file(fewer, tmp_path / "fewer.safetensors")
    with pytest.raises(UserError, match=r"2 tensors of this network are not in it \(such as features.10.bias\)"):
        imagenet_features("alexnet", RELUS["alexnet"], tmp_path / "fewer.safetensors")
    with pytest.raises(UserError, match="no checkpoint at"):
        imagenet_features("alexnet", RELUS["alexnet"], tmp_path / "nowhere.pth")


@pytest.fixture
def hub(tmp_path):
    """An empty torch hub folder."""
    result = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(result)


def test_without_a_file_it_is_torchs_own_or_one_line_where_to_put_it(hub, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(UserError, match=r"put the file at .*alexnet-owt-7be5be79.pth, or .*network.weights=") as caught:
        imagenet_features("alexnet", RELUS["alexnet"])
    assert "\n" not in str(caught.value)
    features = some_features("alexnet")
    torch.save(features, hub / "alexnet-owt-7be5be79.pth")
    network = imagenet_features("alexnet", RELUS["alexnet"])
    assert network.network.features[0].weight.equal(features["features.0.weight"])


def test_a_download_is_checked_against_the_digest_in_its_name(hub, monkeypatch):
    asked = []

    def fetched(url, file, hash_prefix, progress):
        asked.append((url, hash_prefix))
        torch.save(some_features("squeezenet1_1"), file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetched)
    imagenet_features("squeezenet1_1", ["features.1"])
    assert asked == [("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth", "b8a52dc0")]
    imagenet_features("squeezenet1_1", ["features.1"])
    assert len(asked) == 1
