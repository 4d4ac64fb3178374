"""Models of other libraries by name: theirs to the last bit, normalised inside, tapped where asked."""

import sys

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from gauntlet.config.instantiate import check_targets, instantiate
from gauntlet.errors import UserError
from gauntlet.models import Classifier, TappedClassifier, timm, torchvision
from tests.fixtures import random_images

COLOUR = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


def normalised(images):
    return (images - torch.tensor(COLOUR["mean"])[:, None, None]) / torch.tensor(COLOUR["std"])[:, None, None]


def test_torchvisions_model_is_theirs_behind_the_normalisation():
    ours = torchvision("mobilenet_v3_small", 5, **COLOUR, taps=["features.1", "features.4"]).eval()
    theirs = get_model("mobilenet_v3_small", weights=None, num_classes=5).eval()
    theirs.load_state_dict(ours.network.state_dict())
    images = random_images(2, 3, 40, 32)
    recorded = []
    for index in (1, 4):
        theirs.features[index].register_forward_hook(lambda _, __, output: recorded.append(output.clone()))
    with torch.no_grad():
        assert ours(images).equal(theirs(normalised(images)))
        assert all(a.equal(b) for a, b in zip(ours.features(images), recorded, strict=True))


def test_timms_model_is_theirs_behind_the_normalisation():
    library = pytest.importorskip("timm", reason="timm is an extra")
    ours = timm("resnet10t", 5, **COLOUR, taps=["layer1", "layer4"]).eval()
    theirs = library.create_model("resnet10t", num_classes=5).eval()
    theirs.load_state_dict(ours.network.state_dict())
    images = random_images(2, 3, 40, 32)
    with torch.no_grad():
        assert ours(images).equal(theirs(normalised(images)))
        assert [layer.shape[2:] for layer in ours.features(images)] == [(10, 8), (2, 1)]
    assert timm("resnet10t", 5, [0.5], [0.2]).eval()(random_images(1, 1, 32, 32)).shape == (1, 5)


def test_without_taps_there_are_none():
    assert type(torchvision("resnet18", 2, **COLOUR)) is Classifier
    assert type(torchvision("resnet18", 2, **COLOUR, taps=["layer2"])) is TappedClassifier


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("resnet5O", COLOUR, "no classifier resnet5O: did you mean resnet50"),
        ("fcn_resnet50", COLOUR, "no classifier fcn_resnet50"),
        ("resnet18", {"mean": [0.5], "std": [0.2]}, "3 channels, and the normalisation is of 1"),
        ("resnet18", COLOUR | {"taps": ["layer9"]}, r"taps \['layer9'\].*such as conv1"),
    ],
)
def test_what_torchvision_has_not_is_named(name, given, says):
    with pytest.raises(ValueError, match=says):
        torchvision(name, 2, **given)


def test_what_timm_has_not_is_named():
    pytest.importorskip("timm", reason="timm is an extra")
    with pytest.raises(ValueError, match="timm has no model resnet5O: did you mean"):
        timm("resnet5O", 2, **COLOUR)


def test_timm_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'gauntlet-robustness\[models\]'"):
        timm("resnet18", 2, **COLOUR)


class Net(nn.Module):
    """A user's own network."""

    def __init__(self, width=2):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU()), nn.LazyLinear(4)

    def forward(self, images):
        return self.head(self.body(images).flatten(1))


def test_a_network_of_ones_own_is_a_config():
    node = {
        "_target_": "gauntlet.models.classifier",
        "network": {"_target_": f"{__name__}.Net", "width": 3},
        "taps": ["body"],
        **COLOUR,
    }
    with pytest.raises(UserError, match=r"model.network._target_.*allow=\[tests\]"):
        check_targets(node, (), "model")
    check_targets(node, ("tests",), "model")
    network = instantiate(node)
    images = random_images(2, 3, 6, 6)
    assert network(images).equal(network.network(normalised(images)))
    assert network.features(images)[0].shape == (2, 3, 4, 4)
