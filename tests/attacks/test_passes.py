"""What each attack costs, in forwards and backwards of every network and per example."""

from dataclasses import dataclass, replace

import pytest
import torch

from gauntlet.attacks import (
    PGD,
    Best,
    Bisection,
    CentralDifference,
    DoubleBackward,
    FastLagrangianPerceptualAttack,
    FirstOrderStep,
    LagrangianPerceptualAttack,
    Last,
    Newton,
    NoProjection,
    PerceptualPGD,
)
from gauntlet.distances import LPIPS
from gauntlet.threats import Linf, NeuralPerceptual
from tests.attacks.perceptual import setting
from tests.fixtures import batch_of, random_images, tapped


class Passes:
    """How many examples went forward and backward through a network."""

    def __init__(self, network):
        self.forward = self.backward = 0
        network.stages[0].register_forward_hook(self.count)

    def count(self, _module, _inputs, output):
        self.forward += len(output)
        if output.requires_grad:
            output.register_hook(self.count_backward)

    def count_backward(self, gradient):
        self.backward += int(gradient.flatten(1).any(1).sum())

    def per(self, examples):
        return self.forward / examples, self.backward / examples


COUNT = 5


def spent(attack, bounded, bound=1e-3):
    """Passes per example of the classifier and of the network of φ; no attack succeeds in so small a ball."""
    classifier, phi_network, _, images, labels, seeds = setting(bounded, torch.float32, bound, COUNT)
    threat = NeuralPerceptual(LPIPS(phi_network), bound)
    seen, seen_by_phi = Passes(classifier), Passes(phi_network)
    attack(threat)(classifier, images, labels, seeds=seeds)
    return seen.per(COUNT), seen_by_phi.per(COUNT)


ENDS = 2  # forwards of φ around any attack: of the clean images, and to measure what comes back


def fast_lpa(threat):
    return FastLagrangianPerceptualAttack(threat_model=threat, steps=10, iterate=Last())


def lpa(threat):
    return LagrangianPerceptualAttack(
        threat_model=threat, searches=3, steps=4, iterate=Last(), projection=NoProjection()
    )


def ppgd(threat):
    return PerceptualPGD(threat_model=threat, steps=3, iterations=5, iterate=Last(), projection=NoProjection())


def first_order(threat):
    return FirstOrderStep(threat_model=threat, iterations=5, iterate=Last(), projection=NoProjection())


@pytest.mark.parametrize(
    ("attack", "own", "of_phi"),
    [
        (fast_lpa, (10, 10), (20, 10)),  # N (2F + 1B)
        (lpa, (12, 12), (24, 12)),  # searches · N (2F + 1B)
        (ppgd, (3, 3), (3, 3 * 5)),  # N (1F + 1B of the classifier; 1F, and 5 (1B + a product with J), of φ)
        (first_order, (1, 1), (1, 5)),
    ],
)
def test_passes_per_example_with_a_network_of_its_own_for_phi(attack, own, of_phi):
    assert spent(attack, "externally") == (own, (of_phi[0] + ENDS, of_phi[1]))


@pytest.mark.parametrize(
    ("attack", "forwards", "backwards"),
    [
        (fast_lpa, 20, 10),
        (lpa, 24, 12),
        (ppgd, 3, 3 * (1 + 5)),  # N ((1F + 1B) + 5 (1B + a product with J)); published: N (9F + 9B) and a line search
        (first_order, 1, 6),
    ],
)
def test_passes_per_example_seen_by_the_classifier_itself(attack, forwards, backwards):
    assert spent(attack, "self")[0] == (forwards + ENDS, backwards)


@dataclass(frozen=True)
class Counted:
    """Exact products with J, of which it writes down how many there were for how many points."""

    points: list
    products: list

    def at(self, embed, params, embedding):
        self.points.append(len(params))
        product = DoubleBackward().at(embed, params, embedding)
        return lambda along: (self.products.append(len(along)), product(along))[1]


@pytest.mark.parametrize(("make", "steps"), [(ppgd, 3), (first_order, 1)])
def test_products_with_the_derivative_are_one_an_iteration(make, steps):
    counted = Counted([], [])
    spent(lambda threat: replace(make(threat), jacobian=counted), "self")
    assert counted.points == [COUNT] * steps
    assert counted.products == [COUNT] * (5 * steps)


@pytest.mark.parametrize(("make", "steps"), [(ppgd, 3), (first_order, 1)])
def test_a_product_by_central_difference_costs_two_forwards(make, steps):
    cheap = lambda threat: replace(make(threat), jacobian=CentralDifference())  # noqa: E731
    assert spent(cheap, "self")[0] == (steps * (1 + 2 * 5) + ENDS, steps * (1 + 5))


@pytest.mark.parametrize("steps", [1, 10])
def test_passes_of_pgd(steps):
    """N (1F + 1B); with the best iterate one forward more, to see where the last step led."""
    for iterate, more in ((Last(), 0), (Best(), 1)):
        classifier, _, _, images, labels, seeds = setting("self", torch.float64, count=COUNT)
        seen = Passes(classifier)
        PGD(threat_model=Linf(1e-6), steps=steps, iterate=iterate)(classifier, images, labels, seeds=seeds)
        assert seen.per(COUNT) == (steps + more, steps)


@pytest.mark.parametrize(("projection", "forwards", "backwards"), [(Bisection(), 6, 0), (Newton(), 7, 5)])
def test_a_projection_costs_little_and_one_forward_for_examples_inside(projection, forwards, backwards):
    phi_network, images = tapped(activation=torch.nn.Softplus), random_images(COUNT, 3, 7, 6)
    region = NeuralPerceptual(LPIPS(phi_network), 0.1).around(batch_of(images))
    delta = 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    delta[1:] *= 1e-3
    delta = region.clip(delta)
    assert (region.size(delta) > 1).tolist() == [True, False, False, False, False]
    seen = Passes(phi_network)
    projection(region, delta)
    assert COUNT < seen.forward <= COUNT + forwards
    assert seen.backward <= (COUNT if backwards else 0) + backwards


@pytest.mark.parametrize("make", [lpa, ppgd])
def test_finished_examples_cost_nothing_after_the_evaluation_that_finished_them(make):
    """Always predicts class 0: label 0 stays correct, label 1 is misclassified at the first evaluation, in the ball."""
    spent = []
    for finished in (0, 20):
        classifier, phi_network, _, images, _, seeds = setting("externally", torch.float32, count=25)
        with torch.no_grad():
            classifier.head[2].bias[0] = 1e3
        images, labels = (
            images[: finished + COUNT].mul(0.8).add(0.1),
            (torch.arange(finished + COUNT) < finished).long(),
        )
        seen, seen_by_phi = Passes(classifier), Passes(phi_network)
        published = make(NeuralPerceptual(LPIPS(phi_network), 3.0))
        replace(published, iterate=Best())(classifier, images, labels, seeds=seeds[: len(images)])
        spent.append((seen.forward, seen_by_phi.forward))
    own, of_phi = (more - less for less, more in zip(*spent, strict=True))
    assert own == 20
    assert of_phi in (20 * (1 + ENDS), 20 * (1 + ENDS) + COUNT)  # PPGD makes the others' graph anew, once
