"""`check_certificate` fails on every promise that a certificate breaks, and says which."""

from dataclasses import dataclass

import pytest
import torch

from gauntlet.certificates import Certificate, Certified
from gauntlet.testing import check_certificate
from gauntlet.testing.examples import linear_classifier, linear_margins
from gauntlet.threats import L1, L2, Linf

DUALS = {Linf: 1, L2: 2, L1: torch.inf}


@dataclass(frozen=True)
class Margin(Certificate):
    """The exact margin of a linear classifier of gray images, rounded down; three classes and more."""

    threat_model: object = L2(0.1)

    def __call__(self, classifier, images, noise):
        predictions = classifier(images).argmax(1)
        abstained = torch.zeros_like(predictions, dtype=torch.bool)
        if not len(images):
            return Certified(predictions, images.new_zeros(0, dtype=torch.float64), abstained)
        radius = linear_margins(classifier, images, DUALS[type(self.threat_model)]) * (1 - 1e-9)
        return Certified(predictions, radius, abstained, {"leads": radius * 2})


def broken(**members):
    return dataclass(frozen=True)(type("Broken", (Margin,), members))()


def result(**change):
    """A call that changes parts of what is stated, each by a function of that part."""

    def call(self, classifier, images, noise):
        stated = Margin.__call__(self, classifier, images, noise)
        return stated._replace(**{name: make(getattr(stated, name)) for name, make in change.items()})

    return {"__call__": call}


@pytest.mark.parametrize("threat_model", [L2(0.1), Linf(0.01), L1(1.0)])
def test_a_certificate_that_keeps_its_promises_passes(threat_model):
    check_certificate(Margin(threat_model))


def test_rows_of_which_nothing_is_stated_may_say_anything():
    def abstains(self, classifier, images, noise):
        stated = Margin.__call__(self, classifier, images, noise)
        nothing = stated.radius < stated.radius.median() if len(images) == 6 else stated.abstained
        return stated._replace(abstained=nothing, radius=torch.where(nothing, -1.0, stated.radius))

    with pytest.raises(AssertionError, match="in another batch"):  # what it abstains from depends on the batch
        check_certificate(broken(__call__=abstains))
    check_certificate(broken(**result(abstained=torch.ones_like, radius=lambda radius: radius * torch.nan)))


def drawn(self, classifier, images, noise):
    stated = Margin.__call__(self, classifier, images, noise)
    return stated._replace(radius=stated.radius * noise.uniform((len(images),)).double())


def drawn_by_torch(self, classifier, images, noise):
    stated = Margin.__call__(self, classifier, images, noise)
    return stated._replace(radius=stated.radius * torch.rand(len(images)).double())


def of_the_batch(self, classifier, images, noise):
    stated = Margin.__call__(self, classifier, images, noise)
    return stated._replace(radius=stated.radius / max(1, len(images)))


def writing(self, classifier, images, noise):
    stated = Margin.__call__(self, classifier, images, noise)
    images.add_(0.0)
    return stated


def filling_gradients(self, classifier, images, noise):
    with torch.enable_grad():
        if len(images):
            classifier(images).sum().backward()
    return Margin.__call__(self, classifier, images, noise)


def told_the_labels(self, classifier, images, labels):
    return Margin.__call__(self, classifier, images, labels)


def also_told_the_labels(self, classifier, images, noise, labels=None):
    return Margin.__call__(self, classifier, images, noise)


CERTIFICATES = {
    "radius of shape \\[6, 1\\]": result(radius=lambda radius: radius[:, None]),
    "radius in torch.float32": result(radius=lambda radius: radius.float()),
    "leads of shape \\[5\\]": result(detail=lambda detail: {name: part[:5] for name, part in detail.items()}),
    "detail has columns \\['radius'\\]": result(detail=lambda detail: {"radius": torch.zeros(6)}),
    "predictions of torch.float64": result(predictions=lambda predictions: predictions.double()),
    "abstained of torch.int64": result(abstained=lambda abstained: abstained.long()),
    "radius has a graph": result(radius=lambda radius: radius.clone().requires_grad_()),
    "the radius of row 0 is negative or NaN": result(radius=lambda radius: radius - 100),
    "a radius is about its prediction": result(predictions=lambda predictions: (predictions + 1) % 3),
    "draw every random number from the noise": {"__call__": drawn_by_torch},
    "with other noise, though its confidence is None": {"__call__": drawn},
    "in another batch": {"__call__": of_the_batch},
    "writes on the caller's images": {"__call__": writing},
    "fills the gradient of": {"__call__": filling_gradients},
    "is called with \\['classifier', 'images', 'labels'\\]": {"__call__": told_the_labels},
    "is called with \\['classifier', 'images', 'noise', 'labels'\\]": {"__call__": also_told_the_labels},
    "confidence is 95": {"confidence": 95},
    "confidence is 1.0": {"confidence": 1.0},
    "assumption is ''": {"assumption": ""},
    "kind is 'attack'": {"kind": "attack"},
    "is not sound": result(radius=lambda radius: radius * 1.001),
}


@pytest.mark.parametrize(("sentence", "members"), CERTIFICATES.items(), ids=CERTIFICATES)
def test_a_certificate_that_breaks_a_promise_is_named_with_it(sentence, members):
    with pytest.raises(AssertionError, match=sentence), torch.random.fork_rng():
        check_certificate(broken(**members))


def test_an_empty_batch_has_no_rows():
    def never_empty(self, classifier, images, noise):
        return Margin.__call__(
            self, classifier, images if len(images) else torch.full((1, 3, 6, 6), 0.5).double(), noise
        )

    with pytest.raises(AssertionError, match=r"an empty batch gives \[1, 1, 1\] rows"):
        check_certificate(broken(__call__=never_empty))


def test_an_attack_finds_what_no_closed_form_tells():
    """Of a classifier of the user's, PGD in the threat model's own geometry stands in for the margin."""
    with pytest.raises(AssertionError, match=r"PGD makes class .* certified within .* not sound"):
        check_certificate(broken(**result(radius=lambda radius: 1.2 * radius)), classifier=linear_classifier())
    check_certificate(Margin(), classifier=linear_classifier())


def test_a_bound_with_an_assumption_is_not_held_against_attacks():
    check_certificate(broken(assumption="the optimiser converged", **result(radius=lambda radius: 1.2 * radius)))


def by_fresh_draws(answers):
    """A certificate at a confidence with radii too large, and its answer where an attack changed the class."""

    def predict(self, classifier, images, noise):
        truth = classifier(images).argmax(1)
        stated = Margin.__call__(self, classifier, images, noise).predictions
        return (truth if answers == "changed" else (stated + 1) % 3), torch.full_like(
            truth, answers == "abstains"
        ).bool()

    return broken(confidence=0.99, predict=predict, **result(radius=lambda radius: 1.2 * radius))


def test_at_a_confidence_an_attack_counts_where_fresh_draws_agree_with_it():
    with pytest.raises(AssertionError, match="is not sound"):
        check_certificate(by_fresh_draws("changed"))
    check_certificate(by_fresh_draws("abstains"))


class Underived(Margin):
    """Fields of its own would be no part of its identity."""


def test_what_is_no_certificate_is_refused():
    with pytest.raises(AssertionError, match=r"L2 is no gauntlet\.certificates\.Certificate"):
        check_certificate(L2(0.1))
    with pytest.raises(AssertionError, match="Underived is no dataclass itself"):
        check_certificate(Underived())
    with pytest.raises(AssertionError, match="threat_model needs a name"):
        check_certificate(Margin(threat_model=None))
