"""Taps: what the named submodules put out, whatever comes behind them, in any copy of the classifier."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.identity import describe
from gauntlet.models import (
    Classifier,
    Normalise,
    Tapped,
    TappedClassifier,
    classifier,
    preact_resnet18,
    resnet18,
    resnet32,
    wide_resnet,
)
from tests.fixtures import random_images

PLAIN = {"mean": [0.0], "std": [1.0]}


class Counted(nn.Identity):
    """An identity that counts the images it sees."""

    def __init__(self):
        super().__init__()
        self._seen = []

    def forward(self, images):
        self._seen.append(len(images))
        return images


class Network(nn.Module):
    """Two convolutions; what happens to the output of the first is up to the test."""

    def __init__(self, between=None, twice=False):
        super().__init__()
        self.first, self.between = nn.Conv2d(1, 4, 3, padding=1), between or nn.ReLU(inplace=True)
        self.second, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.unused, self.counted, self.twice = nn.Conv2d(1, 1, 1), Counted(), twice

    def forward(self, images):
        maps = self.between(self.first(images))
        for _ in range(1 + self.twice):
            maps = self.second(maps)
        return self.head(self.counted(maps).mean((2, 3)))


def built(taps=("first", "second"), **given):
    torch.manual_seed(0)
    return classifier(Network(**given), taps=taps, **PLAIN).eval()


def expected(network, images):
    """The maps and logits by hand."""
    bare = network.network
    first = bare.first(images)
    second = bare.second(first.relu())
    return (first, second), bare.head(second.mean((2, 3)))


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_maps_are_what_the_submodules_put_out_though_an_inplace_layer_follows(batch):
    network, images = built(), random_images(batch, 1, 5, 7)
    maps, logits = expected(network, images)
    tapped, tapped_logits = network.tap(images)
    assert (tapped[0] < 0).any() or not batch
    for one, two, three in zip(maps, tapped, network.features(images), strict=True):
        assert one.equal(two)
        assert one.equal(three)
    assert logits.equal(tapped_logits)
    assert logits.equal(network(images))


def test_only_what_would_overwrite_a_map_ceases_to_work_in_place():
    """And not before it would; the architecture stays what it was."""
    network = built(taps=("first",), between=nn.Sequential(nn.ReLU6(inplace=True), nn.Dropout(0.5, inplace=True)))
    architecture, (relu, dropout) = describe(network), network.network.between
    images = random_images(2, 1, 5, 7)
    network(images)
    assert relu.inplace
    (first,) = network.features(images)
    network.tap(images)
    assert (first < 0).any()
    assert not relu.inplace
    assert dropout.inplace
    assert describe(network) == architecture == describe(copy.deepcopy(network))


@pytest.mark.parametrize("make", [resnet18, resnet32, preact_resnet18, wide_resnet])
def test_residual_networks_go_on_in_place(make):
    network = make(10).eval()
    working = [part for part in network.modules() if getattr(part, "inplace", False)]
    network.tap(random_images(1, 3, 32, 32))
    assert all(part.inplace for part in working)
    assert working


class Narrowed(nn.Module):
    """Overwrites a view of its input."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps):
        return self.relu(maps[..., :2])


def test_a_view_of_a_map_is_not_overwritten_either():
    network, images = built(taps=("first",), between=Narrowed()), random_images(2, 1, 5, 7)
    (first,) = network.features(images)
    (tapped,), _ = network.tap(images)
    assert tapped.equal(first)
    assert (tapped < 0).any()


def test_maps_come_in_the_order_of_the_names():
    network, images = built(taps=("second", "first")), random_images(2, 1, 4, 4)
    (first, second), _ = expected(network, images)
    assert all(a.equal(b) for a, b in zip(network.features(images), (second, first), strict=True))


def test_nothing_behind_the_last_tap_runs_for_the_maps():
    network, images = built(), random_images(2, 1, 4, 4)
    network.features(images)
    assert network.network.counted._seen == []
    network.tap(images)
    network(images)
    assert network.network.counted._seen == [2, 2]


def test_gradients_pass_through_maps_and_logits_alike():
    network, images = built().double(), random_images(2, 1, 4, 4, dtype=torch.float64)

    def scalar(maps, logits):
        return sum((layer.sin() * (i + 1)).sum() for i, layer in enumerate(maps)) + logits.square().sum()

    by_hand, by_tap = (images.clone().requires_grad_() for _ in range(2))
    (wanted,) = torch.autograd.grad(scalar(*expected(network, by_hand)), by_hand)
    (result,) = torch.autograd.grad(scalar(*network.tap(by_tap)), by_tap)
    assert result.allclose(wanted, rtol=1e-12)
    partial = images.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(scalar(expected(network, by_hand)[0], torch.zeros(1)), by_hand)
    (result,) = torch.autograd.grad(scalar(network.features(partial), torch.zeros(1)), partial)
    assert result.allclose(wanted, rtol=1e-12)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda network: pickle.loads(pickle.dumps(network)),
    "torch.save": lambda network: torch.load(saved(network), weights_only=False),
}


def saved(network):
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_has_taps_of_its_own(copied):
    network, images = built(), random_images(2, 1, 4, 4)
    before = network.features(images)
    other = copied(network)
    with torch.no_grad():
        other.network.first.weight.zero_()
    maps, wanted = other.features(images), expected(other, images)[0]
    assert all(a.equal(b) for a, b in zip(maps, wanted, strict=True))
    assert not maps[0].equal(before[0])
    assert all(a.equal(b) for a, b in zip(network.features(images), before, strict=True))


def test_taps_are_no_part_of_the_state():
    assert built().state_dict().keys() == built(taps=()).state_dict().keys()


def test_nothing_is_kept_after_a_forward_even_one_that_failed():
    network = built()
    network.features(random_images(2, 1, 4, 4))
    network.tap(random_images(2, 1, 4, 4))
    with pytest.raises(ValueError, match="channels"):
        network.features(random_images(2, 3, 4, 4))
    network.network.head = nn.Linear(5, 5)
    with pytest.raises(RuntimeError):
        network.tap(random_images(2, 1, 4, 4))
    assert network._recorder.recorded == {}
    assert not network._recorder.active


@pytest.mark.parametrize("scope", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_taps_work_in_every_scope_and_memory_format(scope):
    network, images = built(), random_images(2, 1, 6, 4)
    with torch.no_grad():
        wanted, logits = expected(network, images)
    network.to(memory_format=torch.channels_last)
    with scope():
        result, found_logits = network.tap(images.contiguous(memory_format=torch.channels_last))
    assert all(a.allclose(b.float(), atol=0.03) for a, b in zip(wanted, result, strict=True))
    assert logits.allclose(found_logits.float(), atol=0.03)


def test_two_classifiers_may_share_a_network():
    torch.manual_seed(0)
    network, images = Network(), random_images(2, 1, 4, 4)
    one, other = (TappedClassifier(Normalise(**PLAIN), network, [tap]) for tap in ("first", "second"))
    (first, second), _ = expected(one, images)
    assert one.features(images)[0].equal(first)
    assert other.features(images)[0].equal(second)


def test_a_network_without_taps_has_no_phi():
    network = built(taps=())
    assert type(network) is Classifier
    assert not isinstance(network, Tapped)
    for build in (LPIPS, SelfLPIPS().bind):
        with pytest.raises(TypeError, match="Classifier has none: choose a model with taps"):
            build(network)
    assert isinstance(built(), Tapped)


@pytest.mark.parametrize("taps", [("first", "third"), ("layer1",), ("",), ("first", "first")])
def test_wrong_names_are_refused_with_right_ones(taps):
    with pytest.raises(ValueError, match=r"different names of its submodules, such as first, between, second"):
        built(taps=taps)


class Doubled(nn.Module):
    """Overwrites its input."""

    def forward(self, maps):
        return maps.mul_(2)


@pytest.mark.parametrize(
    ("taps", "given", "says"),
    [
        (("first", "unused"), {}, "tap unused does not run"),
        (("second",), {"twice": True}, "tap second runs more than once"),
        (("first",), {"between": Doubled()}, "output of tap first is overwritten in place by a later layer"),
        (("head",), {}, r"tap head returns \[2, 3\]: φ needs feature maps"),
    ],
)
def test_what_is_no_feature_map_is_named(taps, given, says):
    with pytest.raises(ValueError, match=says):
        built(taps, **given).tap(random_images(2, 1, 4, 4))


def test_taps_are_part_of_an_architecture():
    digests = {describe(built(taps))["architecture"] for taps in (("first",), ("second",), ("first", "second"), ())}
    assert len(digests) == 4


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.1, 0.2]), ([0.5], [0.0]), ([0.5], [-1.0])])
def test_a_normalisation_that_cannot_be_is_refused(mean, std):
    with pytest.raises(ValueError, match="one of each per channel, std above 0"):
        Normalise(mean, std)
