"""Folding gives the same numbers, leaves the network as it was, and lets be what it does not understand."""

import contextlib
import gc
import weakref

import pytest
import torch
import torchvision.models
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gauntlet.acceleration import Folding, folded
from gauntlet.attacks import APGD, FAB, PGD, FastLagrangianPerceptualAttack, FirstSuccess, Last, Square
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.goals import RandomTarget, RankedTargets, Untargeted
from gauntlet.losses import CrossEntropy, Margin, TargetedDLR
from gauntlet.models import Normalise, TappedClassifier, resnet18, resnet32, small_resnet, wide_resnet
from gauntlet.threats import L2, Linf, NeuralPerceptual
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
        norms, logits = norms_in(lambda: network(images))
        (steep,) = torch.autograd.grad(logits.square().sum(), images)
    assert norms == left
    assert logits.allclose(plain, rtol=1e-9, atol=1e-11)
    assert steep.allclose(slope, rtol=1e-7, atol=1e-9 * slope.abs().max())
    assert network(images).equal(plain)


def test_maps_are_the_same():
    network, images = small(), random_images(2, 3, 32, 32).double()
    plain, logits = network.tap(images)
    with folded(network, images):
        maps, folded_logits = network.tap(images)
        alone = network.features(images)
    for current, other, before in zip(maps, alone, plain, strict=True):
        assert current.allclose(before, rtol=1e-9, atol=1e-11)
        assert current.equal(other)
    assert folded_logits.allclose(logits)


def altered(network):
    return [name for name, part in network.named_modules() if "forward" in vars(part)]


def hooks(network):
    return [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in network.modules()]


@pytest.mark.parametrize("failure", [None, ValueError, KeyboardInterrupt])
def test_the_network_is_left_as_it_was_found_and_keeps_its_weights_meanwhile(failure):
    network, images = small(), random_images(1, 3, 32, 32).double()
    weights, recording = network.state_dict(keep_vars=True), hooks(network)

    def untouched():
        now = network.state_dict(keep_vars=True)
        return now.keys() == weights.keys() and all(now[name] is weights[name] for name in weights)

    with contextlib.suppress(ValueError, KeyboardInterrupt), folded(network, images) as folding:
        assert len(altered(network)) == 2 * len(folding) > 0
        assert untouched()
        with folding.unfolded():
            assert not altered(network)
        assert altered(network)
        if failure:
            raise failure
    assert not altered(network)
    assert untouched()
    assert hooks(network) == recording


@pytest.mark.parametrize("when", ["fold", "unfold"])
def test_an_interrupt_at_a_bad_moment_leaves_nothing_folded(when, monkeypatch):
    network, images = small(), random_images(1, 3, 32, 32).double()
    with folded(network, images):
        pass
    whole = getattr(Folding, when)

    def interrupted(folding):
        whole(folding)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Folding, when, interrupted)
    with pytest.raises(KeyboardInterrupt), folded(network, images) as folding, folding.unfolded():
        pass
    assert not altered(network)


def test_what_was_found_is_remembered_and_the_generator_untouched():
    network, images = small(), random_images(3, 3, 32, 32).double()
    runs = []
    network.register_forward_hook(lambda _network, given, _output: runs.append((len(given[0]), torch.rand(1))))
    before = torch.random.get_rng_state()
    for _ in range(3):
        with folded(network, images):
            pass
    assert [count for count, _ in runs] == [1] * (
        1 + 3 * 2
    )  # a new network is recorded once; then with and without folding
    assert len({number.item() for _, number in runs}) == 1
    assert torch.random.get_rng_state().equal(before)


def test_a_network_that_is_done_with_is_forgotten():
    network, images = small(), random_images(1, 3, 32, 32).double()
    network.network.bn1.owner = (network,)
    with folded(network, images):
        pass
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None


def test_new_weights_are_folded_anew():
    network, images = small(), random_images(2, 3, 32, 32).double()
    with folded(network, images):
        before = network(images)
    with torch.no_grad():
        network.network.bn1.running_mean += 0.3
        network.network.conv1.weight *= 1.5
    with folded(network, images):
        assert not network(images).allclose(before)
        logits = network(images)
    assert logits.allclose(network(images), rtol=1e-9)


def test_parts_that_were_replaced_are_folded_as_they_are_or_not_at_all():
    network, images = small(), random_images(2, 3, 32, 32).double()
    with folded(network, images) as folding:
        pairs = len(folding)
    network.network.conv1 = nn.Conv2d(3, 4, 5, stride=2, padding=2).double()
    nn.utils.parametrizations.weight_norm(network.network.layer1[0].conv1)
    weights, plain = network.state_dict().keys(), network(images)
    with folded(network, images) as folding:
        assert len(folding) == pairs - 1
        assert network(images).allclose(plain, rtol=1e-9)
    assert network.state_dict().keys() == weights


def test_a_norm_that_was_fused_away_or_replaced_is_no_pair():
    network, images = small(), random_images(2, 3, 32, 32).double()
    with folded(network, images) as folding:
        pairs = len(folding)
    body = network.network
    body.conv1 = nn.utils.fuse_conv_bn_eval(body.conv1, body.bn1)
    body.bn1 = nn.Identity()
    body.layer1[0].bn1 = nn.GroupNorm(2, 4).double()
    plain = network(images)
    with folded(network, images) as folding:
        assert len(folding) == pairs - 2
        assert network(images).allclose(plain, rtol=1e-9)


@pytest.mark.parametrize("before", ["plain", "around"])
def test_a_network_whose_data_flow_changes_is_recorded_again(before):
    network, images = lived(Odd(before)), random_images(2, 3, 9, 8).double()
    assert kept(network, images) == (before == "around")
    network.kind = "around"
    assert kept(network, images)


class Hidden(nn.Module):
    """A classifier whose taps an attack does not see."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images)


@pytest.mark.parametrize("iterate", [Last(), FirstSuccess()])
def test_phi_of_a_network_inside_the_classifier_stays_what_it_is(iterate):
    phi_network, images = lived(OwnTaps(), torch.float32), random_images(3, 3, 9, 8)
    distance = LPIPS(phi_network)
    threat = NeuralPerceptual(distance, 0.3)
    attack = FastLagrangianPerceptualAttack(threat_model=threat, steps=5, iterate=iterate)
    labels = phi_network(images).argmax(1)
    adversarial = attack(Hidden(phi_network), images, labels, seeds=torch.arange(3))
    assert (adversarial.images - images).abs().amax() > 0.01
    assert adversarial.size.allclose(distance(images, adversarial.images) / 0.3, rtol=1e-4)


def test_a_forward_that_goes_another_way_than_the_taps():
    class TwoWays(OwnTaps):
        def tap(self, images):
            return (self.convolution(images).relu(),), self.forward(images)

        def features(self, images):
            return (self.convolution(images).relu(),)

        def forward(self, images):
            maps = self.convolution(images)
            return (self.norm(maps) + maps).mean((2, 3))

    network, images = lived(TwoWays(), torch.float32), random_images(3, 3, 9, 8)
    attack = PGD(threat_model=Linf(0.05), steps=3, iterate=Last())
    count, _ = norms_in(lambda: attack(network, images, torch.zeros(3, dtype=torch.long), seeds=torch.arange(3)))
    assert count >= 3


def test_a_network_inside_a_folded_one_is_recorded_later():
    inner, images = small(), random_images(1, 3, 32, 32).double()
    outer, plain = nn.Sequential(inner), inner(images)
    with folded(inner, images), folded(outer, images) as nothing:
        assert not nothing
        assert outer(images).allclose(plain)
    with folded(outer, images) as folding:
        assert len(folding) > 0
        assert outer(images).allclose(plain)


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
            case "weights read again":
                maps = self.norm(maps) + self.convolution.weight.mean((1, 2, 3))[:, None, None]
            case "unseen":
                maps = self.norm(maps) + self.convolution.forward(images.flip(2))
            case "norm unseen":
                maps = self.norm.forward(self.norm(maps))
            case "given away":
                return self.norm(maps).mean((2, 3)), maps
            case _:
                maps = self.norm(maps)
        return maps.mean((2, 3))


def kept(network, images):
    """Whether the network computes its norms inside the context, and the same numbers."""
    plain = network(images)
    with folded(network, images):
        count, logits = norms_in(lambda: network(images))
    torch.testing.assert_close(logits, plain, rtol=1e-9, atol=1e-12)
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
        ("weights read again", False),
        ("unseen", True),
        ("norm unseen", True),
        ("given away", True),
        ("of the batch", True),
        ("parametrised", True),
    ],
)
def test_only_what_goes_from_one_into_the_other_and_nowhere_else_is_folded(kind, stays):
    assert kept(lived(Odd(kind)), random_images(2, 3, 9, 8).double()) == stays


def show_output(part):
    return part.register_forward_hook(lambda *_: None)


def show_input(part):
    return part.register_forward_pre_hook(lambda *_: None)


def show_gradient(part):
    return part.register_full_backward_hook(lambda *_: None)


@pytest.mark.parametrize(
    ("where", "show"),
    [
        ("convolution", show_output),
        ("convolution", show_gradient),
        ("inner", show_output),
        ("norm", show_output),  # is shown what it was given, too
        ("norm", show_input),
        ("norm", show_gradient),
    ],
)
def test_a_feature_map_that_is_read_elsewhere_does_not_change(where, show):
    network, images = lived(Odd("plain")), random_images(2, 3, 9, 8).double()
    assert not kept(network, images)
    handle = show(network.get_submodule(where))
    assert kept(network, images)
    handle.remove()
    assert not kept(network, images)


class OwnTaps(nn.Module):
    """Feature maps without our hooks: the protocol alone."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def features(self, images):
        return (self.convolution(images),)

    def tap(self, images):
        maps = self.convolution(images)
        return (maps,), self.norm(maps).mean((2, 3))

    def forward(self, images):
        return self.tap(images)[1]


def test_a_map_that_is_a_feature_stays_what_it_is():
    network, images = lived(OwnTaps()), random_images(2, 3, 9, 8).double()
    plain = network.features(images)[0]
    with folded(network, images):
        assert network.features(images)[0].equal(plain)


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
    with folded(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), torch.rand(1, 3, 4, 4)) as folding:
        assert not folding
    with folded(small(), torch.rand(0, 3, 32, 32).double()) as folding:
        assert not folding


def test_a_network_that_cannot_be_shown_one_image_alone_stays_as_it_is():
    head = nn.BatchNorm1d(4, track_running_stats=False)
    body = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network, images = lived(nn.Sequential(*body, head)), random_images(2, 3, 9, 8).double()
    assert kept(network, images)


def test_a_convolution_and_a_norm_of_different_precision():
    network = lived(Odd("plain"), torch.float32)
    network.convolution.to(torch.bfloat16)
    images = random_images(2, 3, 9, 8).to(torch.bfloat16)
    plain = network(images)
    with folded(network, images) as folding:
        assert len(folding) == 1
        assert network(images).allclose(plain.to(torch.bfloat16), atol=0.02)


class Exactly(nn.Module):
    """Logits in float32, whatever came before them."""

    def __init__(self):
        super().__init__()
        self.network = small(torch.float32)

    def forward(self, images):
        return self.network(images).float()


def test_half_precision_does_not_hide_a_difference_from_the_check():
    network, images = Exactly().eval(), random_images(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        plain = network(images)
        with folded(network, images) as folding:
            assert len(folding) == 9
            assert network(images).allclose(plain, atol=0.05)


def test_what_leads_by_little_is_doubtful():
    network, images = small(), random_images(1, 3, 32, 32).double()
    with folded(network, images) as folding:
        logits = torch.tensor([[1.0, 1.0, -9.0], [1.0, 1.001, -9.0], [1.0, 1.01, -9.0], [0.0, 0.0, 0.0]])
        assert folding.low_margin(logits).tolist() == [True, True, False, True]


def test_rounding_is_far_below_what_is_doubtful_on_a_real_network():
    network = trained_resnet32("delta").requires_grad_(False)
    images, _ = cifar10(100)
    with torch.no_grad():
        plain = network(images)
        with folded(network, images):
            logits = network(images)
    rounding = ((logits - plain).abs().amax(1) / logits.abs().amax(1)).max()
    assert 0 < rounding < torch.finfo(torch.float32).eps ** 0.5 / 50


@pytest.mark.parametrize(
    "attack",
    [
        PGD(threat_model=Linf(8 / 255), steps=10),
        APGD(threat_model=L2(0.5), goal=RankedTargets(TargetedDLR(), 2), steps=10),
        FAB(threat_model=Linf(6 / 255), goal=Untargeted(Margin()), steps=10),
        Square(threat_model=Linf(8 / 255), queries=60),
    ],
    ids=["pgd", "apgd-t", "fab", "square"],
)
def test_robust_accuracy_is_the_same(attack, monkeypatch):
    """But for examples next to the boundary: the two ways differ by rounding, and paths by what follows from it."""
    network = trained_resnet32("delta")
    images, labels = cifar10(24)

    def still_correct():
        adversarial = attack(network, images, labels, seeds=torch.arange(24)).images
        with torch.no_grad():
            return network(adversarial).argmax(1) == labels

    count, folding = norms_in(still_correct)
    monkeypatch.setattr("gauntlet.acceleration.folding._pairs_of", lambda *_: [])
    plain_count, plain = norms_in(still_correct)
    assert plain_count > 5 * count  # those left are the checks before the search, and successes of low margin
    assert 0 < plain.sum() < 24
    assert (folding != plain).sum() <= 1


def test_attacks_compute_no_batch_norm():
    network, images, labels = small(torch.float32), random_images(3, 3, 32, 32), torch.tensor([0, 1, 2])
    pgd = PGD(threat_model=Linf(0.05), steps=3, iterate=Last())
    threat = NeuralPerceptual(SelfLPIPS(), 0.5)
    perceptual = FastLagrangianPerceptualAttack(threat_model=threat, steps=3, iterate=Last())
    seeds = torch.arange(3)
    for attack, norms, forwards in ((pgd, 9, 1), (perceptual, 9, 2)):  # one or two checks of the first image, as it is
        attack(network, images, labels, seeds=seeds)
        count, _ = norms_in(lambda: attack(network, images, labels, seeds=seeds))  # noqa: B023
        assert count == norms * forwards


class Torn(nn.Module):
    """Gray of 1/4, 2/4 and 3/4 is right; folded, 1/4 leads by little as the other class, and 2/4 by much."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.truthful, self.forwards = True, []

    def forward(self, images):
        scores = self.norm(self.convolution(images)).sum((1, 2, 3)) * 1e-9
        kind = (images.detach().mean((1, 2, 3)) * 4).round().long()
        folding = "forward" in vars(self.norm)
        self.forwards.append((kind.tolist(), folding))
        lie = torch.tensor([0.0, 1 + 1e-5, 2.0, 0.0])[kind] * (folding and not self.truthful)
        return torch.stack((scores + 1, scores + lie), 1)


@pytest.mark.parametrize("goal", [Untargeted(CrossEntropy()), RandomTarget()])
def test_a_narrow_success_counts_once_the_network_as_it_is_agrees(goal):
    """A wide one is not asked about: here it is a lie, but rounding tells none that big."""
    network, seeds = Torn().eval(), torch.arange(4)
    grays = torch.tensor([0.75, 0.25, 0.5, 0.25])[:, None, None, None].expand(4, 3, 8, 8).clone()
    attack = PGD(threat_model=Linf(0.02), steps=2, step_size=0.1, goal=goal)
    with folded(network, grays):
        network.truthful, network.forwards = False, []
    attack(network, grays, torch.zeros(4, dtype=torch.long), seeds=seeds)
    glances, first, asked = [([3], False), ([3], True)], [3, 1, 2, 1], [1, 1]
    assert network.forwards == [*glances, (first, True), (asked, False), *[([3, 1, 1], True), (asked, False)] * 2]


def test_a_narrow_success_of_a_search_that_roams_is_asked_about_inside_the_bound():
    network, grays = Torn().eval(), torch.tensor([0.75, 0.25])[:, None, None, None].expand(2, 3, 8, 8).clone()
    with folded(network, grays):
        network.truthful, network.forwards = False, []
    attack = FAB(threat_model=Linf(0.02), goal=Untargeted(Margin()), steps=1)
    attack(network, grays, torch.zeros(2, dtype=torch.long), seeds=torch.arange(2))
    assert network.forwards[2:4] == [([3, 1], True), ([1], False)]
    assert all(len(kinds) > 1 or not folding for kinds, folding in network.forwards[2:])  # no example dropped
