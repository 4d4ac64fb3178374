"""A network is what it computes: its attributes tell two apart that have the same layers, its state of use does not."""

import copy
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
import torch.fx
from torch import nn
from torchvision.transforms import v2

from gauntlet.acceleration import channels_last, folded
from gauntlet.descriptions import digest
from gauntlet.identity import describe
from gauntlet.models import classifier, small_resnet
from gauntlet.scopes import frozen
from tests.fixtures import random_images
from tests.modules import module_of


def name(network):
    return digest(describe(network))


class Net(nn.Module):
    """Logits times a scale, behind whatever is done to the images first."""

    def __init__(self, classes, scale=1.0, transform=None, **more):
        super().__init__()
        self.head = nn.Linear(4, classes)
        self.scale, self.transform = scale, transform
        for key, value in more.items():
            setattr(self, key, value)

    def forward(self, images):
        return self.scale * self.head((self.transform or nn.Identity())(images).flatten(1))


class JPEG:
    """An input transformation that is no module."""

    def __init__(self, quality=75):
        self.quality, self._calls = quality, 0

    def __call__(self, images):
        self._calls += 1
        return images


def times(factor):
    return lambda images: images * factor


def test_the_sign_of_a_scale_tells_two_networks_apart():
    """One would be measured with the other's records: their layers and weights are the same."""
    assert name(Net(3, scale=1.0)) != name(Net(3, scale=-1.0))
    assert name(Net(3, scale=1.0)) == name(Net(3)) == name(Net(3, scale=1))


@pytest.mark.parametrize(
    "networks",
    [
        [Net(3, bits=bits) for bits in (4, 8)],
        [Net(3, flag=flag) for flag in (True, False, 1, None, "1")],
        [Net(3, sizes=sizes) for sizes in ([4, 8], [8, 4], [4])],
        [Net(3, options={"temperature": value}) for value in (0.5, 2.0)],
        [Net(3, transform=JPEG(quality)) for quality in (10, 75)],
        [Net(3, transform=times(factor)) for factor in (2, 3)],
        [Net(3, transform=function) for function in (lambda x: x + 1, lambda x: x - 1, lambda x: x + 2)],
        [Net(3, transform=partial(torch.clamp, max=value)) for value in (0.5, 1.0)],
        [Net(3, transform=function) for function in (torch.relu, torch.tanh)],
        [Net(3, transform=function) for function in (nn.functional.relu, nn.functional.gelu)],
        [Net(3, transform=v2.GaussianBlur(3, sigma)) for sigma in (0.5, 1.0)],
        [Net(3, transform=nn.LeakyReLU(slope)) for slope in (0.1, 0.2)],
        [Net(3, steps=value) for value in (np.int64(3), np.int64(4), np.arange(3), np.arange(3.0))],
        [Net(3, mean=torch.full((2,), value)) for value in (0.1, 0.2)],
        [Net(3, kind=kind) for kind in (nn.ReLU, nn.GELU)],
        [nn.MultiheadAttention(8, heads) for heads in (2, 4)],
        [nn.Sequential(*parts) for parts in ((nn.ReLU(), nn.Tanh()), (nn.Tanh(), nn.ReLU()))],
        [nn.Upsample(scale_factor=2, mode=mode) for mode in ("nearest", "bilinear")],
        [torch.fx.symbolic_trace(network) for network in (Net(3, 1.0, nn.ReLU()), Net(3, 2.0, nn.ReLU()))],
        [nn.BatchNorm2d(2, eps=eps) for eps in (1e-5, 1e-3)],
    ],
    ids=lambda networks: None,
)
def test_what_is_computed_otherwise_is_another_network(networks):
    assert len({name(network) for network in networks}) == len(networks)
    assert [name(copy.deepcopy(network)) for network in networks] == [name(network) for network in networks]


def test_what_only_private_attributes_modes_and_hooks_differ_in_is_one_network():
    network = Net(3, transform=JPEG(10))
    before = name(network)
    network(random_images(2, 1, 2, 2))  # which the transformation counts
    network.eval().requires_grad_(False)
    network._cache, network.device = torch.ones(3), "cuda:1"
    network.head.register_forward_hook(lambda *_: None)
    with frozen(network):
        assert name(network.double().float()) == before


def test_weights_are_no_part_of_an_architecture_and_their_shapes_are():
    assert name(Net(3)) == name(Net(3))
    assert name(Net(3)) != name(Net(4))


def test_what_is_in_no_state_dict_counts_by_content():
    def with_buffer(value, persistent):
        network = Net(3)
        network.register_buffer("codes", torch.full((2,), value), persistent=persistent)
        return network

    assert name(with_buffer(1.0, True)) == name(with_buffer(2.0, True))
    assert name(with_buffer(1.0, False)) != name(with_buffer(2.0, False))
    torch.manual_seed(0)
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    assert len({name(Net(3, hidden=[layer])) for layer in layers}) == 2
    assert name(Net(3, hidden=[layers[0]])) == name(Net(3, hidden=[copy.deepcopy(layers[0])]))


def test_a_file_counts_by_its_content_wherever_it_lies(tmp_path):
    for place, content in (("one", "a"), ("two", "a"), ("three", "b")):
        (tmp_path / place).write_text(content)
    names = [name(Net(3, codebook=tmp_path / place)) for place in ("one", "two", "three")]
    assert names[0] == names[1] != names[2]


def test_a_network_may_refer_to_itself_and_to_its_own_layers():
    network = Net(3)
    network.layers, network.options = [network.head], {}
    network.options["whole"], network.options["again"] = network, network.options
    network.hidden = [Net(2, parent=[network])]
    assert name(network) == name(copy.deepcopy(network)) != name(Net(3))


@dataclass(frozen=True)
class Settings:
    """Plain values of a network."""

    bits: int = 8


def test_a_dataclass_on_a_network_counts_by_its_values():
    assert name(Net(3, settings=Settings(8))) == name(Net(3, settings=Settings()))
    assert name(Net(3, settings=Settings(4))) != name(Net(3, settings=Settings()))


def test_working_in_place_is_no_part_of_an_architecture():
    plain, in_place = (
        nn.Sequential(nn.ReLU(inplace), nn.ReLU6(inplace), nn.Dropout(0.5, inplace), nn.LeakyReLU(0.1, inplace))
        for inplace in (False, True)
    )
    assert name(plain) == name(in_place)


def test_channels_last_and_folding_leave_the_identity_as_it_was():
    network = small_resnet(10, [0.5] * 3, [0.5] * 3, width=8).eval()
    images, before = random_images(2, 3, 16, 16), name(network)
    assert name(channels_last(network)) == before
    with folded(network, images) as folding:
        assert len(folding) > 0
        assert name(network) == before
    network.tap(images)
    assert name(network) == before == name(network.train())


def test_what_a_new_version_of_a_library_may_add_to_a_layer_changes_nothing():
    """Attributes that its constructor does not take, and those that are at the constructor's defaults."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    before = name(network)
    network[0].backend_hint = "fast"
    assert name(network) == before
    network[0].padding_mode = "reflect"
    assert name(network) != before


def test_of_a_users_network_the_source_counts_and_its_module_does_not(tmp_path):
    source = '''
        from torch import nn

        class Net(nn.Module):
            """Logits."""

            def forward(self, images):
                return images.flatten(1)[:, :2] * 2
    '''
    sources = (source, source.replace('"""Logits."""', '"""Two logits."""'), source.replace("* 2", "* -2"))
    names = [name(module_of(tmp_path, f"own_net_{i}", each).Net()) for i, each in enumerate(sources)]
    assert names[0] == names[1] != names[2]


def test_a_subclass_of_a_shipped_network_is_another_network(tmp_path):
    shipped = classifier(nn.Flatten(), [0.5], [0.5])
    source = "from gauntlet.models.taps import Classifier\nclass Mine(Classifier):\n    pass"
    own = module_of(tmp_path, "own_subclass", source).Mine(shipped.normalise, shipped.network)
    assert describe(shipped)["network"] == "classifier/1"
    assert describe(own)["network"].startswith("Mine@")


LETTERS = frozenset("abcdefgh")


def hashed_by_process():
    """A network with sets of strings, as an attribute and in its code: Python orders them by a hash of the process."""
    return Net(3, transform=lambda x: x if "x" in {"a", "b", "c", "d", "e", "f"} else -x, letters=LETTERS)


def test_it_is_the_same_in_every_process():
    script = "from tests.test_architecture import *; print(name(hashed_by_process()))"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [name(hashed_by_process())]
