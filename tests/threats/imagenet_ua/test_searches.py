"""Published searches in all eight, on real images: losses rise, and a result depends on the example alone."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from gauntlet.attacks import PGD, Last, Normalised, Sign
from gauntlet.data import Batch
from gauntlet.goals import Untargeted
from gauntlet.losses import CrossEntropy
from gauntlet.noise import Noise
from gauntlet.threats import (
    UAJPEG,
    AnyOf,
    Composition,
    Linf,
    UAElastic,
    UAGabor,
    UAGlitch,
    UAKaleidoscope,
    UAPixel,
    UASnow,
    UAWood,
)
from tests.fixtures import tapped
from tests.networks import cifar10, resnet32

SEARCHES = {
    "jpeg": (UAJPEG(3 / 255), 0.0024),
    "elastic": (UAElastic(0.25, 2), 0.006),
    "wood": (UAWood(0.05, 16, 5), 0.000625),
    "glitch": (UAGlitch(0.05, 16), 0.0025),
    "kaleidoscope": (UAKaleidoscope(0.1, 5, 4, 0.2), 0.005),
    "pixel": (UAPixel(5, 4), 1.0),
    "snow": (UASnow(4, 3, 10, 1), 0.2),
    "gabor": (UAGabor(0.03, 3), 0.0025),
}
"""By name the medium threat model of CIFAR-10 and the length of a step."""
every_one = pytest.mark.parametrize("name", SEARCHES)


def search(name, steps):
    threat, length = SEARCHES[name]
    return PGD(
        threat_model=threat, goal=Untargeted(CrossEntropy()), iterate=Last(), steps=steps,
        step_size=length / threat.bound, step=Normalised() if name == "pixel" else Sign(),
    )  # fmt: skip


def losses(classifier, images, labels):
    with torch.no_grad():
        return cross_entropy(classifier(images), labels, reduction="none")


@every_one
@pytest.mark.parametrize(
    "published", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["small network", "published network"]
)
def test_steps_raise_the_loss_of_nineteen_in_twenty_images(name, published):
    """Against the start, a search of none."""
    images, labels = cifar10(20)
    classifier, steps = (resnet32("delta"), 10) if published else (tapped(classes=10), 4)
    starts, result = (search(name, k)(classifier, images, labels, seeds=torch.arange(20)) for k in (0, steps))
    assert ((result.images >= 0) & (result.images <= 1)).all()
    assert (result.size <= 1 + 1e-4).all()
    risen = losses(classifier, result.images, labels) >= losses(classifier, starts.images, labels)
    assert risen.double().mean() >= 0.95


@every_one
def test_an_example_has_the_same_result_alone_and_in_any_order(name):
    (images, labels), classifier = cifar10(5), tapped(classes=10)
    batch, noise = Batch(images, labels, torch.arange(5)), Noise(torch.arange(5) + 10)
    whole = search(name, 2).run(classifier, batch, noise)
    assert search(name, 2).run(classifier, batch, noise).images.equal(whole.images)
    for order in (torch.tensor([3]), torch.arange(5).flip(0)):
        again = search(name, 2).run(classifier, batch.rows(order), noise.rows(order))
        assert again.params.allclose(whole.params[order], rtol=1e-4, atol=1e-5)


@every_one
def test_a_change_in_front_and_a_union_have_a_gradient(name):
    """Compositions and unions as for any other threat model."""
    (images, labels), classifier = cifar10(2), tapped(classes=10)
    threat, _ = SEARCHES[name]
    for several in (Composition([Linf(4 / 255), threat]), AnyOf([threat, Linf(4 / 255)])):
        attack = PGD(threat_model=several, steps=2, iterate=Last())
        result = attack(classifier, images, labels, seeds=torch.arange(2))
        region = several.around(Batch(images, labels, torch.arange(2)), classifier)
        params = result.params.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(region.perturb(params).square().sum(), params)
        assert gradient.isfinite().all()
        assert gradient.flatten(1).any(1).all()
