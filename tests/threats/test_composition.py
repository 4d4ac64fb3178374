"""Compositions: one part is that part, parts act in order, and each stays inside its own bound."""

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from gauntlet.attacks import PGD, Last
from gauntlet.config.compose import CONF, plain, register_resolvers
from gauntlet.config.instantiate import instantiate
from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.identity import describe
from gauntlet.noise import Noise
from gauntlet.threats import L1, L2, AdversarialJPEG, ChangedPixels, Composition, Linf, NeuralPerceptual, Region
from tests.fixtures import LinearClassifier, batch_of, predictions, random_images, tapped

DOUBLE = torch.float64
PARTS = {
    "linf": Linf(0.05),
    "l2": L2(0.4),
    "l1": L1(1.0),
    "pixels": ChangedPixels(0.1),
    "jpeg": AdversarialJPEG(0.5),
    "perceptual": NeuralPerceptual(SelfLPIPS(), 0.2),
}


@dataclass(frozen=True)
class Gamma:
    """A change that is not additive: x to the power of e^(bound · p), one p per image in [-1, 1]."""

    bound: float
    name: ClassVar[str] = "gamma"
    unit: ClassVar[str] = "log of the exponent"

    def around(self, batch, classifier=None):
        return GammaRegion(batch.images, self.bound)


class GammaRegion(Region):
    def zero(self):
        return self.images.new_zeros(len(self.images), 1, 1, 1)

    def start(self, noise):
        return noise.uniform((len(self.images), 1, 1, 1), -1, 1).to(self.images)

    def perturb(self, params):
        return self.images ** (self.bound * params).exp()

    def project(self, params):
        return params.clamp(-1, 1)

    def ascend(self, params, gradient, step):
        return params + step * gradient.sign()

    def size(self, params):
        return params.abs().flatten(1).amax(1)

    def penalty(self, params):
        return params.square().flatten(1).sum(1)


def wild(region, seed=0, scale=0.3):
    shape = region.zero().shape
    random = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return (scale * random).to(region.zero())


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_composition_of_one_is_the_one_bit_for_bit(name, batch):
    network = tapped()
    images = random_images(batch, 3, 6, 5)
    one, alone = (
        Composition([PARTS[name]]).around(batch_of(images), network),
        PARTS[name].around(batch_of(images), network),
    )
    seeds = Noise(torch.arange(batch))
    shape, gradient = alone.zero().shape, wild(alone, seed=1)
    assert one.start(seeds).equal(alone.start(seeds).flatten(1))
    for params in (alone.zero(), alone.start(seeds), wild(alone)):
        row = params.reshape(batch, shape[1:].numel())
        assert one.perturb(row).equal(alone.perturb(params))
        assert one.project(row).reshape(shape).equal(alone.project(params))
        assert one.size(row).equal(alone.size(params))
        assert one.penalty(row).equal(alone.penalty(params))
        moved = one.ascend(row, gradient.reshape(row.shape), 0.2)
        assert moved.reshape(shape).equal(alone.ascend(params, gradient, 0.2))


@pytest.mark.parametrize("name", PARTS)
def test_an_attack_on_a_composition_of_one_is_the_attack_on_the_one(name):
    classifier, images = tapped(), random_images(6, 3, 6, 5)
    labels, seeds = predictions(classifier, images), torch.arange(6)
    result = [
        PGD(threat_model=threat, steps=5)(classifier, images, labels, seeds=seeds)
        for threat in (PARTS[name], Composition([PARTS[name]]))
    ]
    assert result[0].images.equal(result[1].images)
    assert result[0].size.equal(result[1].size)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations([*PARTS, "gamma"], 2)))
def test_each_part_is_inside_its_own_bound_around_the_image_before_it(first, second):
    """Step by step with the parts' own regions; the image is the last one's, exactly in [0, 1]."""
    network = tapped()
    both = [(PARTS | {"gamma": Gamma(0.5)})[name] for name in (first, second)]
    images = (random_images(3, 3, 6, 5) * 1.4 - 0.2).clamp(0, 1)
    region = Composition(both).around(batch_of(images), network)
    params = region.project(wild(region))
    image, sizes = images, []
    for threat, part in zip(both, region.pieces(params), strict=True):
        step = threat.around(batch_of(image), network)
        assert (step.size(part) <= 1 + 1e-4).all()
        sizes.append(step.size(part))
        image = step.perturb(part).clamp(0, 1)
    shown = region.perturb(params)
    assert shown.equal(image)
    assert ((shown >= 0) & (shown <= 1)).all()
    assert region.size(params).equal(torch.stack(sizes).amax(0))
    assert region.inside(params, region.forward(network, params)).all()
    assert not region.inside(wild(region, scale=9.0), region.forward(network, params)).any()


@pytest.mark.parametrize("names", [("gamma", "linf"), ("gamma", "jpeg"), ("jpeg", "gamma", "l2"), ("l1", "perceptual")])
def test_gradients_flow_through_every_part(names):
    network = tapped(channels=1, dtype=DOUBLE)
    threat = Composition([(PARTS | {"gamma": Gamma(0.5)})[name] for name in names])
    region = threat.around(batch_of(random_images(2, 1, 4, 3, dtype=DOUBLE) * 0.5 + 0.25), network)
    params = wild(region, scale=0.02).requires_grad_()
    assert torch.autograd.gradcheck(region.perturb, params)
    (gradient,) = torch.autograd.grad(region.perturb(params).square().sum(), params)
    assert all(piece.abs().amax() > 0 for piece in region.pieces(gradient))


def test_the_order_matters_and_is_that_of_the_list():
    images = torch.full((1, 1, 2, 2), 0.25, dtype=DOUBLE)
    gamma, plus = Gamma(1.0), Linf(0.1)
    params = torch.tensor([[1.0, 0.1, 0.1, 0.1, 0.1]], dtype=DOUBLE)
    first = Composition([gamma, plus]).around(batch_of(images)).perturb(params)
    last = Composition([plus, gamma]).around(batch_of(images)).perturb(params.roll(-1, 1))
    power = torch.tensor(1.0, dtype=DOUBLE).exp()
    assert first.allclose(0.25**power + 0.1)
    assert last.allclose(0.35**power)


def test_penalties_add_up_and_the_largest_size_counts():
    region = Composition([Gamma(0.5), Linf(0.1), Gamma(0.2)]).around(batch_of(random_images(2, 1, 2, 2, dtype=DOUBLE)))
    params = torch.zeros(2, 6, dtype=DOUBLE)
    params[0, 0], params[0, 5], params[1, 2] = 0.5, -0.25, 0.08
    assert region.penalty(params).tolist() == pytest.approx([0.25 + 0.0625, 0])
    assert region.size(params).tolist() == pytest.approx([0.5, 0.8])


@pytest.mark.parametrize("batch", [1, 4])
def test_linf_and_linf_reach_as_far_as_one_of_both_together(batch):
    """Two L∞ balls are the ball of the sum of their bounds: the closed form of a linear classifier."""
    classifier = LinearClassifier(105, bias=1e3, dtype=DOUBLE)
    images = random_images(batch, 3, 7, 5, dtype=DOUBLE)
    labels, weight = torch.zeros(batch, dtype=torch.long), classifier.weight.detach().reshape(3, 7, 5)
    best = (images - 0.12 * weight.sign()).clamp(0, 1)
    threat = Composition([Linf(0.05), Linf(0.07)])
    result = PGD(threat_model=threat, steps=40)(classifier, images, labels, seeds=torch.arange(batch))
    assert result.images.allclose(best, rtol=0, atol=1e-9)


def test_parts_start_with_numbers_of_their_own():
    region = Composition([Linf(0.1), Linf(0.1), Linf(0.1)]).around(batch_of(torch.full((50, 1, 8, 8), 0.5)))
    starts = torch.stack([piece.flatten() for piece in region.pieces(region.start(Noise(torch.arange(50))))])
    assert (starts.corrcoef() - torch.eye(3)).abs().max() < 0.06


def test_nested_compositions_are_their_parts_in_order():
    network, images = tapped(), random_images(3, 3, 6, 5)
    nested = Composition([Composition([Linf(0.05), L2(0.2)]), AdversarialJPEG(0.5)]).around(batch_of(images), network)
    plainly = Composition([Linf(0.05), L2(0.2), AdversarialJPEG(0.5)]).around(batch_of(images), network)
    params = wild(nested)
    assert nested.perturb(params).equal(plainly.perturb(params))
    assert nested.project(params).equal(plainly.project(params))
    start = nested.pieces(nested.start(Noise(torch.arange(3))))[0].flatten()
    assert (start[:200].unique().numel()) > 100


def test_a_fixed_network_measures_behind_another_change():
    network = tapped()
    threat = Composition([Linf(0.05), NeuralPerceptual(LPIPS(network), 0.1)])
    images = random_images(4, 3, 6, 6)
    result = PGD(threat_model=threat, steps=5, iterate=Last())(tapped(seed=1), images, torch.zeros(4, dtype=torch.long))
    delta, _ = threat.around(batch_of(images)).pieces(result.params)
    assert (LPIPS(network)(images + delta, result.images) <= 0.1 * (1 + 1e-4)).all()
    assert (delta.abs() <= 0.05 * (1 + 1e-5)).all()


def test_names_bounds_and_identities():
    assert Composition([Linf(0.1), L2(0.0)]).name == "linf+l2"
    assert Composition([Linf(0.1), L2(0.0)]).bound == 1.0
    assert Composition([Linf(0.0), L2(0.0)]).bound == 0.0
    listed, mapped = Composition([Linf(0.1), L2(1.0)]), Composition({"b": Linf(0.1), "a": L2(1.0)})
    assert listed == mapped
    assert describe(listed) == describe(mapped)
    assert describe(listed) != describe(Composition({"a": L2(1.0), "b": Linf(0.1)}))
    assert hash(listed) == hash(mapped)
    assert replace(listed, parts=[Linf(0.2)]).name == "linf"


@pytest.mark.parametrize("parts", [[], {}])
def test_a_composition_of_nothing_is_refused(parts):
    with pytest.raises(ValueError, match="a composition of no threat models: name at least one"):
        Composition(parts)


def test_a_part_that_is_no_threat_model_is_refused():
    with pytest.raises(TypeError, match="a part that is a float: expected threat models"):
        Composition([Linf(0.1), 0.5])


def test_a_composition_is_a_mapping_of_parts_in_yaml():
    """The form of conf/threat_model/*_linf.yaml: parts by their group options, in order, each to be overridden."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = ["defense=at", "threat_model=jpeg_linf", "threat_model.parts.linf.bound=0.03"]
        for extra, expected in (
            ([], [AdversarialJPEG(0.25), Linf(0.03)]),
            (["threat_model@threat_model.parts.jpeg=l1"], [L1(20), Linf(0.03)]),
        ):
            config = compose("train", [*words, *extra], return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            built = instantiate(plain(config)["defense"]["attack"])
            assert built.threat_model == Composition(expected)
            assert type(built.threat_model.parts) is tuple
