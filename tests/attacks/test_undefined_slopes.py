"""Where a network has no derivative, a search goes on with the rest, just as if its author had taken care of it."""

import pytest
import torch
from torch import nn

from gauntlet.attacks import (
    APGD,
    FAB,
    PGD,
    Adam,
    CentralDifference,
    DoubleBackward,
    FastLagrangianPerceptualAttack,
    FirstOrderStep,
    LagrangianPerceptualAttack,
    Last,
    OntoRegion,
    PerceptualPGD,
    SparseAPGD,
    Square,
)
from gauntlet.attacks.gradient import finite_gradient
from gauntlet.data import Batch
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.evaluation import AttackSuite, evaluate, probe
from gauntlet.goals import RankedTargets, Untargeted
from gauntlet.losses import CrossEntropy
from gauntlet.threats import L1, L2, Linf, NeuralPerceptual, StAdv
from tests.evaluation.tiny import examples
from tests.fixtures import random_images, tapped
from tests.networks import cifar10, resnet32


class Rough(nn.Module):
    """A body, and a term that grows with the roughness of the image; its root has no derivative where rows are equal.

    Cared for, the root has the derivative 0 there.
    """

    def __init__(self, body, cared_for, classes=10):
        super().__init__()
        self.body, self.cared_for = body, cared_for
        self.register_buffer("ramp", torch.linspace(-1, 1, classes))

    def forward(self, images):
        steps = images[:, :, 1:] - images[:, :, :-1]
        square = (steps**2).sum(1)
        if self.cared_for:
            root = torch.where(square > 0, torch.where(square > 0, square, 1).sqrt(), 0)
        else:
            root = square.sqrt()
        return self.body(images) + 0.1 * root.mean((1, 2))[:, None] * self.ramp


@pytest.mark.parametrize(("bound", "below"), [(1.0, 0.6), (3.0, 0.2)])
def test_sparse_apgd_reaches_what_it_reaches_where_the_slope_is_0_there(bound, below):
    """On a real network and real images, of which 0.78 and 0.43 were left where such examples had no slope at all."""
    body, (images, labels) = resnet32("normal"), cifar10(40)
    attack, seeds = SparseAPGD(threat_model=L1(bound), steps=25), torch.arange(40)
    right = []
    for cared_for in (False, True):
        network = Rough(body, cared_for).eval()
        result = attack(network, images, labels, seeds=seeds).images
        with torch.no_grad():
            right.append((network(result).argmax(1) == labels).double().mean().item())
    assert abs(right[0] - right[1]) <= 1 / 40
    assert right[0] < below


def flat_images(count=6):
    """With a black frame, in which neighbouring rows are equal."""
    images = random_images(count, 3, 8, 8)
    images[:, :, :3] = 0
    return images


SEEN = NeuralPerceptual(LPIPS(tapped(seed=9)), 0.4)
SEARCHES = {
    "pgd linf": PGD(threat_model=Linf(0.05), steps=4),
    "pgd l2": PGD(threat_model=L2(0.5), steps=4, iterate=Last()),
    "pgd l1": PGD(threat_model=L1(3.0), steps=4, goal=Untargeted(CrossEntropy())),
    "adam": PGD(threat_model=L2(0.5), steps=4, step=Adam()),
    "flow": PGD(threat_model=StAdv(0.1), steps=3),
    "apgd l2": APGD(threat_model=L2(0.5), steps=8),
    "apgd ranked": APGD(threat_model=L2(0.5), steps=4, goal=RankedTargets(targets=2)),
    "sparse": SparseAPGD(threat_model=L1(3.0), steps=10),
    "fab linf": FAB(threat_model=Linf(0.05), steps=4),
    "fab l2": FAB(threat_model=L2(0.5), steps=4, restarts=2),
    "fab l1": FAB(threat_model=L1(3.0), steps=4),
    "square": Square(threat_model=L2(0.5), queries=20),
    "lpa": LagrangianPerceptualAttack(threat_model=SEEN, searches=2, steps=3),
    "fast lpa": FastLagrangianPerceptualAttack(threat_model=SEEN, steps=4, projection=OntoRegion()),
    "ppgd": PerceptualPGD(threat_model=SEEN, steps=2, iterations=3),
    "first order": FirstOrderStep(threat_model=SEEN, iterations=2, jacobian=CentralDifference()),
}


@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_every_search_goes_on_and_leaves_no_example_behind(attack):
    images, seeds = flat_images(), torch.arange(6)
    network = Rough(tapped(classes=5), cared_for=False, classes=5).eval()
    with torch.no_grad():
        labels = network(images).argmax(1)
    result = attack(network, images, labels, seeds=seeds)
    assert result.images.isfinite().all()
    assert (result.images != images).flatten(1).any(1).all()
    for i in range(2):  # what is undefined in one example is nothing to the others
        alone = attack(network, images[i : i + 1], labels[i : i + 1], seeds=seeds[i : i + 1])
        assert alone.images.allclose(result.images[i : i + 1], rtol=0, atol=1e-4)


class Nowhere(nn.Module):
    """Finite logits, and a slope that is NaN in every pixel of the images that begin with a 0."""

    def __init__(self):
        super().__init__()
        self.body = tapped(classes=4)

    def forward(self, images):
        level = torch.where(images[:, 0, 0, 0] == 0, 0.0, images.flatten(1).square().sum(1))
        return self.body(images) + level.sqrt()[:, None] * 0 + (images * level[:, None, None, None].sqrt()).mean()


@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_examples_without_any_slope_are_no_classifier_that_answers_nan(attack):
    images = random_images(4, 3, 8, 8)
    images[1, 0, 0, 0] = 0
    network = Nowhere().eval()
    with torch.no_grad():
        labels = network(images).argmax(1)
    assert attack(network, images, labels, seeds=torch.arange(4)).images.isfinite().all()


class Kinked(nn.Module):
    """Feature maps with a root: φ has no derivative where a map is 0."""

    def __init__(self):
        super().__init__()
        self.body = tapped(classes=4)

    def features(self, images):
        return tuple(layer.square().sqrt() + layer for layer in self.body.features(images))

    def tap(self, images):
        maps = self.features(images)
        return maps, self.body(images)

    def forward(self, images):
        return self.body(images)


@pytest.mark.parametrize("jacobian", [DoubleBackward(), CentralDifference()])
@pytest.mark.parametrize(
    "attack",
    [
        lambda threat, jacobian: PerceptualPGD(threat_model=threat, steps=3, iterations=3, jacobian=jacobian),
        lambda threat, jacobian: LagrangianPerceptualAttack(threat_model=threat, searches=2, steps=3),
    ],
)
def test_a_distance_without_a_derivative_somewhere_stops_no_search(attack, jacobian):
    network, images = Kinked().eval(), random_images(5, 3, 8, 8)
    with torch.no_grad():
        labels = network(images).argmax(1)
        assert any((layer == 0).any() for layer in network.features(images))
    result = attack(NeuralPerceptual(SelfLPIPS(), 0.3), jacobian)(network, images, labels, seeds=torch.arange(5))
    assert result.images.isfinite().all()
    assert (result.size <= 1 + 1e-4).all()
    assert (result.images != images).flatten(1).any(1).all()


def test_a_slope_keeps_what_is_defined_to_the_bit():
    params = torch.tensor([[0.0, 2.0, -3.0], [1.0, 5.0, 0.5]], requires_grad=True)
    result = finite_gradient((params**2).sqrt().sum(1) + params.square().sum(1), params)
    assert result.tolist() == [[0.0, 5.0, -7.0], [3.0, 11.0, 2.0]]


def test_the_library_measures_all_attacks_and_the_flag_is_raised():
    network = Rough(tapped(), cared_for=False, classes=4).eval()
    split = examples()
    split.images[:, :, :3] = 0
    suite = AttackSuite({"l2": PGD(threat_model=L2(0.6), steps=4), "linf": PGD(threat_model=Linf(0.1), steps=4)})
    records = evaluate(network, split, suite)
    assert {name: len(frame) for name, frame in records.items()} == {"l2": 40, "linf": 40}
    batch = split[slice(0, 12)]
    with torch.no_grad():
        labels = network(batch.images).argmax(1)
    flags = probe(network, suite, Batch(batch.images, labels, batch.ids))
    raised = [flag for flag in flags if flag.name == "gradients"]
    assert [flag.attack for flag in raised] == ["l2", "linf"]
    assert all(flag.raised and flag.value == 1 for flag in raised)
    assert not any("could not be checked" in flag.explanation for flag in flags)


class Ending(nn.Module):
    """A body whose logits autograd does not follow back."""

    def __init__(self, cut):
        super().__init__()
        self.body, self.cut = tapped(classes=4), cut

    def forward(self, images):
        return self.cut(self.body, images)


@torch.no_grad()
def without_gradients(body, images):
    return body(images)


CUTS = {
    "detach": lambda body, images: body(images).detach(),
    "no_grad": without_gradients,
    "threshold": lambda body, images: (body(images) > 0).float() + torch.linspace(0, 0.1, 4),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("attack", [attack for name, attack in SEARCHES.items() if name != "square"])
def test_where_there_is_no_gradient_at_all_a_search_says_so_and_climbs_no_penalty_alone(attack, cut):
    """A flow's smoothness and a perceptual distance have gradients of their own: such a search would break nothing."""
    network, images = Ending(cut).eval(), random_images(4, 3, 8, 8)
    labels = network(images).argmax(1)
    with pytest.raises(ValueError, match=r"the classifier's answer has no gradient .* such as Square"):
        attack(network, images, labels, seeds=torch.arange(4))
    found = SEARCHES["square"](network, images, labels, seeds=torch.arange(4)).images
    assert (found != images).any()
