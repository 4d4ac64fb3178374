"""`check_attack` fails on every promise that an attack breaks, and says which."""

from dataclasses import dataclass, replace

import pytest
import torch

from gauntlet.attacks import PGD, Attack, MinimumDistanceAttack
from gauntlet.noise import Noise
from gauntlet.testing import check_attack
from gauntlet.threats import L1, L2, Linf

THREAT = Linf(0.05)
PLAIN = PGD(threat_model=THREAT, steps=3)


@dataclass(frozen=True)
class Wrapped(Attack):
    """PGD with something changed about it: each of these breaks one promise."""

    threat_model: Linf = THREAT

    def __call__(self, classifier, images, labels, *, seeds=None):
        return PLAIN(classifier, images, labels, seeds=seeds)


def broken(**members):
    return dataclass(frozen=True)(type("Broken", (Wrapped,), members))()


def result(**change):
    """A call that changes parts of PGD's result, each by a function of that part."""

    def call(self, classifier, images, labels, *, seeds=None):
        adversarial = PLAIN(classifier, images, labels, seeds=seeds)
        return adversarial._replace(**{name: make(getattr(adversarial, name)) for name, make in change.items()})

    return {"__call__": call}


def test_attacks_that_keep_their_promises_pass():
    check_attack(PLAIN)
    check_attack(broken())
    check_attack(NearestOfLinear(threat_model=L2(0.5)))
    check_attack(NearestOfLinear(threat_model=Linf(0.01)))
    check_attack(NearestOfLinear(threat_model=L1(1.0)))


def outside(self, classifier, images, labels, *, seeds=None):
    return PGD(threat_model=Linf(0.1), steps=3)(classifier, images, labels, seeds=seeds)


def remeasured(self, classifier, images, labels, *, seeds=None):
    adversarial = outside(self, classifier, images, labels, seeds=seeds)
    return adversarial._replace(size=2 * adversarial.size)


def unseeded(self, classifier, images, labels, *, seeds=None):
    return PLAIN(classifier, images, labels)


def of_the_batch(self, classifier, images, labels, *, seeds=None):
    shared = Linf(0.05 / max(1, len(images)))
    adversarial = PGD(threat_model=shared, steps=3)(classifier, images, labels, seeds=seeds)
    return adversarial._replace(size=adversarial.size / max(1, len(images)))


def never_empty(self, classifier, images, labels, *, seeds=None):
    return PLAIN(classifier, images, labels, seeds=seeds) if len(images) else PLAIN(
        classifier, torch.zeros(1, 3, 6, 6, dtype=images.dtype), labels.new_zeros(1), seeds=labels.new_zeros(1)
    )  # fmt: skip


def writing(self, classifier, images, labels, *, seeds=None):
    adversarial = PLAIN(classifier, images, labels, seeds=seeds)
    images.add_(0.0)
    return adversarial


def leaving_gradients_on(self, classifier, batch, noise):
    torch.set_grad_enabled(True)
    return PLAIN.run(classifier, batch, noise)


def in_eval_mode_for_good(self, classifier, images, labels, *, seeds=None):
    classifier.eval()
    return PLAIN(classifier, images, labels, seeds=seeds)


def eval_mode_unless_it_raises(self, classifier, images, labels, *, seeds=None):
    modes = {part: part.training for part in classifier.modules()}
    classifier.eval()
    adversarial = PLAIN(classifier, images, labels, seeds=seeds)
    for part, mode in modes.items():
        part.training = mode
    return adversarial


def in_training_mode(self, classifier, images, labels, *, seeds=None):
    classifier(images)
    return PLAIN(classifier, images, labels, seeds=seeds)


def filling_gradients(self, classifier, images, labels, *, seeds=None):
    with torch.enable_grad():
        if len(images):
            was = classifier.training
            modes = [(part, part.training) for part in classifier.modules()]
            classifier.eval()(images).sum().backward()
            for part, mode in modes:
                part.training = mode
            assert classifier.training == was
    return PLAIN(classifier, images, labels, seeds=seeds)


def hooking(self, classifier, images, labels, *, seeds=None):
    classifier.register_forward_hook(lambda *_: None)
    return PLAIN(classifier, images, labels, seeds=seeds)


def taking_anything(self, classifier, images, labels, *, seeds=None):
    count = min(len(images), len(labels))
    return PLAIN(classifier, images[:count].clamp(0, 1), labels[:count], seeds=seeds[:count])


ATTACKS = {
    "images \\[6, 3, 6, 5\\] for": result(images=lambda images: images[..., :5]),
    "images of torch.float32": result(images=lambda images: images.float()),
    "pixels are NaN or infinite in row 0": result(images=lambda images: images * torch.nan),
    "pixels from -": result(images=lambda images: images - 0.5),
    "5 params for 6 images": result(params=lambda params: params[:5]),
    "size \\[6, 1\\], expected": result(size=lambda size: size[:, None]),
    "results have a graph": result(size=lambda size: size.clone().requires_grad_()),
    "images are not what their params say": result(params=lambda params: params / 2),
    "size is not that of the params": result(size=lambda size: size / 2),
    "says that it stays inside, and has size": {"__call__": remeasured},
    "the same seeds give other images": {"__call__": unseeded},
    "run\\(\\) under no_grad differs": {"run": lambda self, c, b, noise: PLAIN.run(c, b, Noise(noise.seeds + 1))},
    "leaves gradients on": {"run": leaving_gradients_on},
    "in another batch; no example may depend": {"__call__": of_the_batch},
    "an empty batch gives": {"__call__": never_empty},
    "writes on the caller's images": {"__call__": writing},
    "in another mode: restore it": {"__call__": in_eval_mode_for_good},
    "when the classifier raises an error, leaves": {"__call__": eval_mode_unless_it_raises},
    "changes normalise|changes network": {"__call__": in_training_mode},
    "fills the gradient of": {"__call__": filling_gradients},
    "leaves hooks on": {"__call__": hooking},
    "takes images above 1": {"__call__": taking_anything},
    "stays_inside is 'yes'": {"stays_inside": "yes"},
    "kind is 'certificate'": {"kind": "certificate"},
    "threat_model cannot be searched": {"threat_model": None, "__annotations__": {"threat_model": None}},
}


@pytest.mark.parametrize(("sentence", "members"), ATTACKS.items(), ids=ATTACKS)
def test_an_attack_that_breaks_a_promise_is_named_with_it(sentence, members):
    with pytest.raises(AssertionError, match=sentence), torch.random.fork_rng():
        check_attack(broken(**members))


def test_an_attack_that_stays_outside_and_says_so_passes():
    check_attack(broken(__call__=remeasured, stays_inside=False))


class Underived(Wrapped):
    """Fields of its own would be no part of its identity."""


@dataclass
class Loose(Attack):
    """May change after it was identified."""

    threat_model: Linf = THREAT
    __call__ = Wrapped.__call__


@pytest.mark.parametrize(
    ("loose", "sentence"), [(Loose(), "no frozen dataclass"), (Underived(), "no dataclass itself")]
)
def test_an_attack_that_is_no_frozen_dataclass_is_refused(loose, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_attack(loose)


def test_what_is_no_attack_is_refused():
    with pytest.raises(AssertionError, match=r"Linf is no gauntlet\.attacks\.Attack"):
        check_attack(THREAT)


@dataclass(frozen=True, kw_only=True)
class NearestOfLinear(MinimumDistanceAttack):
    """Along the direction of the dual norm towards every other class, as far as a linear classifier asks for.

    Of any other classifier an upper bound.
    """

    overshoot: float = 1e-7

    def nearest(self, classifier, region, labels, noise):
        images = region.images.clone().requires_grad_()
        logits = classifier(images)
        best = region.zero()
        length = torch.where(logits.argmax(1) == labels, torch.inf, 0.0).to(best)
        for other in range(logits.shape[1]):
            lead = logits.gather(1, labels[:, None])[:, 0] - logits[:, other]
            (gradient,) = torch.autograd.grad(lead.sum(), images, retain_graph=True)
            unit, norm = self.steepest(gradient.flatten(1))
            step = (1 + self.overshoot) * lead.detach() / norm.clamp(min=1e-30)
            delta = (-step[:, None] * unit).reshape(images.shape)
            delta = (region.images + delta).clamp(0, 1) - region.images
            with torch.no_grad():
                hit = classifier(region.images + delta).argmax(1) != labels
            shorter = hit & (step.abs() < length) & (other != labels)
            best[shorter], length[shorter] = delta[shorter], step.abs()[shorter]
        return best

    def steepest(self, gradient):
        """The direction of norm 1 that changes the lead most, and by how much."""
        if isinstance(self.threat_model, Linf):
            return gradient.sign(), gradient.abs().sum(1)
        if isinstance(self.threat_model, L2):
            return gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-30), gradient.norm(dim=1)
        largest = gradient.abs().amax(1, keepdim=True)
        only = (gradient.abs() == largest) & ((gradient.abs() == largest).cumsum(1) == 1)
        return only * gradient.sign(), largest[:, 0]


def of_the_bound(self, classifier, region, labels, noise):
    params = NearestOfLinear.nearest(self, classifier, region, labels, noise) * (1 + 1e-3 * region.bound)
    return (region.images + params).clamp(0, 1) - region.images


def kept_without_success(self, classifier, region, labels, noise):
    return region.zero() + (0.5 - region.images) * 1e-6


def moving_what_is_wrong(self, classifier, region, labels, noise):
    wrong = classifier(region.images).argmax(1) != labels
    params = NearestOfLinear.nearest(self, classifier, region, labels, noise)
    params[wrong] = ((0.5 - region.images) * 1e-6)[wrong]
    return params


def half_measured(self, classifier, batch, adversarial):
    verified = MinimumDistanceAttack.verify(self, classifier, batch, adversarial)
    return verified._replace(distance=verified.distance / 2)


def unmeasured(self, classifier, batch, adversarial):
    return MinimumDistanceAttack.verify(self, classifier, batch, adversarial)._replace(distance=None)


def measured_in_float32(self, classifier, batch, adversarial):
    verified = MinimumDistanceAttack.verify(self, classifier, batch, adversarial)
    return verified._replace(distance=verified.distance.float())


def measured_in_bounds(self, classifier, batch, adversarial):
    verified = MinimumDistanceAttack.verify(self, classifier, batch, adversarial)
    return verified._replace(distance=verified.distance * (1 + self.threat_model.bound))


MINIMUM_DISTANCE = {
    "images depend on the bound": {"nearest": of_the_bound},
    "is not misclassified": {"nearest": kept_without_success},
    "examples that are wrong already get distance": {"nearest": moving_what_is_wrong},
    "on a linear classifier, whose nearest image of another": {"verify": half_measured},
    "verify states no distance": {"verify": unmeasured},
    "verify states distances in torch.float32": {"verify": measured_in_float32},
    "distances depend on the bound": {"verify": measured_in_bounds},
}


@pytest.mark.parametrize(("sentence", "members"), MINIMUM_DISTANCE.items(), ids=MINIMUM_DISTANCE)
def test_a_minimum_distance_attack_that_breaks_a_promise_is_named_with_it(sentence, members):
    made = dataclass(frozen=True, kw_only=True)(type("Broken", (NearestOfLinear,), members))
    with pytest.raises(AssertionError, match=sentence):
        check_attack(made(threat_model=L2(0.05)))


def test_images_of_float32_and_another_classifier_will_do():
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    check_attack(replace(PLAIN, restarts=2), classifier=classifier, images=images)
