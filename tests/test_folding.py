"""Folding gives the same numbers, leaves the network as it was, and lets be what it does not understand."""

import contextlib

import pytest
import torch
import torchvision.models
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gauntlet.attacks import PGD, FastLagrangianPerceptualAttack, Last
from gauntlet.distances import SelfLPIPS
from gauntlet.folding import Folding, folded
from gauntlet.goals import Untargeted
from gauntlet.losses import CrossEntropy
from gauntlet.models import Normalise, TappedClassifier, resnet18, resnet32, small_resnet, wide_resnet
from gauntlet.threats import Linf, NeuralPerceptual
from tests.fixtures import random_images
from tests.networks import cifar10
from tests.networks import resnet32 as trained_resnet32

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


def lived(network, dtype=torch.float64):
    """In eval mode, with statistics as after some training."""
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, NORMS) and part.running_mean is not None:
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator) / 10)
            part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            if part.affine:
                part.weight.data.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
                part.bias.data.copy_(torch.randn(part.num_features, generator=generator) / 10)
    return network.to(dtype).eval()


def small(dtype=torch.float64):
    return lived(small_resnet(10, [0.3] * 3, [0.3] * 3, width=4), dtype)


class Norms(TorchDispatchMode):
    """Counts batch norms as they are computed."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "batch_norm" in func.__name__
        return func(*args, **(kwargs or {}))


def norms_in(run):
    with Norms() as norms:
        result = run()
    return norms.count, result


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (lambda: resnet18(10), 0),
        (lambda: resnet32(10), 0),
        (lambda: small_resnet(10, [0.3] * 3, [0.3] * 3), 0),
        (lambda: wide_resnet(10, depth=10, width=1), 4),  # norms of sums and before shortcuts
        (lambda: torchvision.models.densenet121(num_classes=10), 62),
        (lambda: torchvision.models.mobilenet_v2(num_classes=10), 0),
    ],
    ids=["resnet18", "resnet32", "small", "wide", "densenet", "mobilenet"],
)
def test_logits_and_gradients_are_the_same(make, left):
    network, images = lived(make()), random_images(2, 3, 32, 32).double().requires_grad_()
    plain = network(images)
    (slope,) = torch.autograd.grad(plain.square().sum(), images)
    with folded(network, images.detach()):
        norms, found = norms_in(lambda: network(images))
        (steep,) = torch.autograd.grad(found.square().sum(), images)
    assert norms == left
    assert found.allclose(plain, rtol=1e-9, atol=1e-11)
    assert steep.allclose(slope, rtol=1e-7, atol=1e-9 * slope.abs().max())
    assert network(images).equal(plain)


def test_maps_are_the_same():
    network, images = small(), random_images(2, 3, 32, 32).double()
    plain, logits = network.tap(images)
    with folded(network, images):
        maps, found = network.tap(images)
        alone = network.features(images)
    for here, other, before in zip(maps, alone, plain, strict=True):
        assert here.allclose(before, rtol=1e-9, atol=1e-11)
        assert here.equal(other)
    assert found.allclose(logits)


@pytest.mark.parametrize("failure", [None, ValueError])
def test_the_network_is_left_as_it_was_found(failure):
    network, images = small(), random_images(1, 3, 32, 32).double()

    def state():
        return [
            (name, vars(part).keys(), len(part._forward_hooks), *(id(tensor) for tensor in part._parameters.values()))
            for name, part in network.named_modules()
        ]

    before, numbers = state(), {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with contextlib.suppress(ValueError), folded(network, images) as folding:
        assert state() != before
        with folding.undone():
            assert state() == before
        assert state() != before
        if failure:
            raise failure
    assert state() == before
    assert all(tensor.equal(numbers[name]) for name, tensor in network.state_dict().items())


def test_what_was_found_is_remembered_and_the_generator_untouched():
    network, images = small(), random_images(1, 3, 32, 32).double()
    runs = []
    network.register_forward_hook(lambda *_: runs.append(torch.rand(1)))
    before = torch.random.get_rng_state()
    for _ in range(3):
        with folded(network, images):
            pass
    assert len(runs) == 1
    assert torch.random.get_rng_state().equal(before)


def test_new_weights_are_folded_anew():
    network, images = small(), random_images(2, 3, 32, 32).double()
    with folded(network, images):
        before = network(images)
    with torch.no_grad():
        network.network.bn1.running_mean += 0.3
        network.network.conv1.weight *= 1.5
    with folded(network, images):
        assert not network(images).allclose(before)
        found = network(images)
    assert found.allclose(network(images), rtol=1e-9)


class Odd(nn.Module):
    """A convolution and a batch norm, with something in between or beside them."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4, track_running_stats=kind != "of the batch")
        self.inner = nn.Sequential(self.convolution)
        if kind == "parametrised":
            nn.utils.parametrizations.weight_norm(self.convolution)

    def forward(self, images):
        maps = self.inner(images)
        match self.kind:
            case "around":
                maps = self.norm(maps) + maps
            case "in place":
                maps = self.norm(maps.relu_())
            case "a view":
                maps = self.norm(maps) + maps[:, :1]
            case "twice":
                maps = self.norm(maps) + self.norm(self.convolution(images.flip(2)))
            case "norm twice":
                maps = self.norm(self.norm(maps))
            case _:
                maps = self.norm(maps)
        return maps.mean((2, 3))


def kept(network, images):
    """Whether the network computes its norms inside the context, and the same numbers."""
    plain = network(images)
    with folded(network, images):
        count, found = norms_in(lambda: network(images))
    assert found.allclose(plain, rtol=1e-9)
    return count > 0


@pytest.mark.parametrize(
    ("kind", "stays"),
    [
        ("plain", False),
        ("around", True),
        ("in place", True),
        ("a view", True),
        ("twice", True),
        ("norm twice", True),
        ("of the batch", True),
        ("parametrised", True),
    ],
)
def test_only_what_goes_from_one_into_the_other_and_nowhere_else_is_folded(kind, stays):
    assert kept(lived(Odd(kind)), random_images(2, 3, 9, 8).double()) == stays


@pytest.mark.parametrize("where", ["convolution", "inner"])
def test_a_map_that_somebody_looks_at_stays_what_it_is(where):
    network, images = lived(Odd("plain")), random_images(2, 3, 9, 8).double()
    assert not kept(network, images)
    handle = network.get_submodule(where).register_forward_hook(lambda *_: None)
    assert kept(network, images)
    handle.remove()
    assert not kept(network, images)


def test_a_tapped_convolution_stays_what_it_is():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    tapped = lived(TappedClassifier(Normalise([0.3] * 3, [0.3] * 3), network, ["0"]))
    images = random_images(2, 3, 9, 8).double()
    (plain,) = tapped.features(images)
    with folded(tapped, images):
        assert tapped.features(images)[0].equal(plain)


def test_a_norm_in_train_mode_stays():
    network, images = small(), random_images(2, 3, 32, 32).double()
    network.network.bn1.train()
    with folded(network, images), torch.no_grad():
        count, _ = norms_in(lambda: network(images))
    assert count == 1


def test_nothing_to_fold():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    with folded(network, torch.rand(1, 3, 4, 4)) as folding:
        assert folding.doubtful(torch.zeros(3, 2)).tolist() == [False] * 3
    with folded(small(), torch.rand(0, 3, 32, 32)) as folding:
        assert folding.doubtful(torch.zeros(3, 2)).tolist() == [False] * 3


def test_what_leads_by_little_is_doubtful():
    network, images = small(), random_images(1, 3, 32, 32).double()
    with folded(network, images) as folding:
        logits = torch.tensor([[1.0, 1.0, -9.0], [1.0, 1.001, -9.0], [1.0, 1.01, -9.0], [0.0, 0.0, 0.0]])
        assert folding.doubtful(logits).tolist() == [True, True, False, True]


def test_rounding_is_far_below_what_is_doubtful_on_a_real_network():
    network = trained_resnet32("delta").requires_grad_(False)
    images, _ = cifar10(100)
    with torch.no_grad():
        plain = network(images)
        with folded(network, images) as folding:
            assert isinstance(folding, Folding)
            found = network(images)
    rounding = ((found - plain).abs().amax(1) / found.abs().amax(1)).max()
    assert 0 < rounding < torch.finfo(torch.float32).eps ** 0.5 / 50


def test_attacks_compute_no_batch_norm():
    network, images, labels = small(torch.float32), random_images(3, 3, 32, 32), torch.tensor([0, 1, 2])
    pgd = PGD(threat_model=Linf(0.05), steps=3, iterate=Last())
    threat = NeuralPerceptual(SelfLPIPS(), 0.5)
    perceptual = FastLagrangianPerceptualAttack(threat_model=threat, steps=3, iterate=Last())
    seeds = torch.arange(3)
    pgd(network, images, labels, seeds=seeds)  # which shows what can be folded
    for attack in (pgd, perceptual):
        count, _ = norms_in(lambda: attack(network, images, labels, seeds=seeds))  # noqa: B023
        assert count == 0


class Torn(nn.Module):
    """Right, but for a lead of the other class that only the folded network sees."""

    def __init__(self, lead):
        super().__init__()
        self.lead, self.looks = lead, 0
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        self.looks += 1
        scores = self.norm(self.convolution(images)).sum((1, 2, 3)) * 1e-9
        if "forward" in vars(self.norm):
            return torch.stack((scores + 1, scores + 1 + self.lead), 1)
        return torch.stack((scores + 1, scores), 1)


@pytest.mark.parametrize(("lead", "looks"), [(1e-5, 1 + 2 * 5), (0.1, 1 + 1)])
def test_a_narrow_success_counts_once_the_network_as_it_is_agrees(lead, looks):
    """A wide one is not asked about: here it is a lie, but rounding tells none that big."""
    network = Torn(lead).eval()
    attack = PGD(threat_model=Linf(0.05), steps=4, goal=Untargeted(CrossEntropy()))
    attack(network, random_images(1, 3, 8, 8), torch.tensor([0]), seeds=torch.tensor([0]))
    assert network.looks == looks
