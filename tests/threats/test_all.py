"""What every threat model promises, one table for all of them."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.noise import Noise
from gauntlet.testing import check_threat_model
from gauntlet.threats import (
    L0,
    L1,
    L2,
    RGB,
    AdversarialJPEG,
    AnyOf,
    ChangedPixels,
    Composition,
    Linf,
    NeuralPerceptual,
    ReColorAdv,
    StAdv,
)
from tests.fixtures import batch_of, numpy_distance, random_images, subsampled, tapped
from tests.threats.oracles import farthest_look, largest_recolouring


def measured(threat, network, images, changed):
    """How far images moved in the threat model's own unit, in float64, without a line of the region's code."""
    delta = (changed.double() - images.double()).flatten(1)
    if isinstance(threat, Linf):
        return delta.abs().amax(1)
    if isinstance(threat, L2):
        return delta.square().sum(1).sqrt()
    if isinstance(threat, StAdv):
        return torch.from_numpy(farthest_look(images.double().numpy(), changed.double().numpy(), threat.bound))
    if isinstance(threat, ReColorAdv):
        return torch.from_numpy(
            largest_recolouring(images.double().numpy(), changed.double().numpy(), threat.space.name)
        )
    if isinstance(threat, L1):
        return delta.abs().sum(1)
    if isinstance(threat, L0):
        return (changed != images).any(1).flatten(1).sum(1)
    if isinstance(threat, ChangedPixels):
        allowed = max(1, int(threat.bound * images[0, 0].numel() + 1e-9)) if len(images) else 1
        return (changed != images).any(1).flatten(1).sum(1) / allowed * (threat.bound or 1)
    if isinstance(threat, AdversarialJPEG):
        return delta.new_zeros(len(delta))  # see test_jpeg: clamped pixels do not tell their coefficients
    if isinstance(threat, AnyOf):
        shares = [measured(part, network, images, changed) / part.bound for part in threat.members]
        return torch.stack(shares).amin(0)
    if isinstance(threat, Composition) and [type(part) for part in threat.parts] == [Linf, L2]:
        beyond = (delta.abs() - threat.parts[0].bound).relu()  # what no L∞ ball explains must be the L2 ball's
        return beyond.square().sum(1).sqrt() / threat.parts[1].bound if threat.bound else delta.abs().amax(1)
    if isinstance(threat, Composition):
        return delta.new_zeros(len(delta))  # see test_composition: part by part
    return torch.from_numpy(numpy_distance(network, images, changed))


@dataclass
class Case:
    """A threat model, how wild the params are that are projected into it, and the images it is for."""

    make: object
    spread: float
    channels: tuple = (1, 2, 3)


CASES = {
    "linf": Case(lambda network: Linf(8 / 255), 0.1),
    "wide linf": Case(lambda network: Linf(1.0), 3.0),
    "l2": Case(lambda network: L2(0.5), 0.5),
    "short l2": Case(lambda network: L2(1e-3), 1.0),
    "self perceptual": Case(lambda network: NeuralPerceptual(SelfLPIPS(), 0.3), 0.5),
    "fixed perceptual": Case(lambda network: NeuralPerceptual(LPIPS(network), 0.1), 0.5),
    "flow": Case(lambda network: StAdv(0.3), 0.4),
    "started flow": Case(lambda network: StAdv(0.05, smoothness=0, spread=1.0), 0.4),
    "luv": Case(lambda network: ReColorAdv(0.06, resolution=[4, 5, 7], spread=0.5), 0.1, (3,)),
    "rgb": Case(lambda network: ReColorAdv(0.1, RGB(), [5, 4, 6], spread=1.0), 0.2),
    "linf of 0": Case(lambda network: Linf(0.0), 0.1),
    "l2 of 0": Case(lambda network: L2(0.0), 0.1),
    "perceptual of 0": Case(lambda network: NeuralPerceptual(SelfLPIPS(), 0.0), 0.1),
    "flow of 0": Case(lambda network: StAdv(0.0, spread=1.0), 0.1),
    "luv of 0": Case(lambda network: ReColorAdv(0.0, resolution=[3, 3, 4], spread=1.0), 0.1, (3,)),
    "l1": Case(lambda network: L1(2.0), 0.2),
    "short l1": Case(lambda network: L1(1e-3), 1.0),
    "l0": Case(lambda network: L0(2), 1.0),
    "l0 of 0": Case(lambda network: L0(0), 0.1),
    "pixels": Case(lambda network: ChangedPixels(0.1), 1.0),
    "all pixels": Case(lambda network: ChangedPixels(1.0), 1.0),
    "jpeg": Case(lambda network: AdversarialJPEG(0.5), 1.0),
    "linf+l2": Case(lambda network: Composition([Linf(0.05), L2(0.3)]), 0.1),
    "jpeg+l1": Case(lambda network: Composition([AdversarialJPEG(0.5), L1(0.5)]), 0.5),
    "linf+perceptual": Case(lambda network: Composition([Linf(0.05), NeuralPerceptual(LPIPS(network), 0.1)]), 0.3),
    "luv+flow+linf": Case(
        lambda network: Composition([ReColorAdv(0.06, resolution=[4, 5, 7], spread=0.5), StAdv(0.1), Linf(0.05)]),
        0.1,
        (3,),
    ),
    "flow|rgb": Case(lambda network: AnyOf([StAdv(0.3), ReColorAdv(0.1, RGB(), [5, 4, 6])]), 0.3),
    "linf|l2|l1": Case(lambda network: AnyOf([Linf(0.05), L2(0.3), L1(0.5)]), 1.5),
    "pixels|jpeg": Case(lambda network: AnyOf([ChangedPixels(0.1), AdversarialJPEG(0.5)]), 1.0),
    "l1 of 0": Case(lambda network: L1(0.0), 0.1),
    "pixels of 0": Case(lambda network: ChangedPixels(0.0), 0.1),
    "linf+l2 of 0": Case(lambda network: Composition([Linf(0.0), L2(0.0)]), 0.1),
}
SHAPES = {
    "colour": (3, 6, 6),
    "gray": (1, 8, 8),
    "odd": (3, 7, 5),
    "wide": (2, 2, 11),
    "smallest": (1, 2, 2),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
PARTS = {f"{n}": n for n in (0, 1, 3)}


def encodes(threat):
    """Whether JPEG is part of it: gray or RGB only, and a zero image of its own."""
    parts = getattr(threat, "parts", getattr(threat, "members", ()))
    return isinstance(threat, AdversarialJPEG) or any(encodes(part) for part in parts)


def perceives(threat):
    """Whether a network measures a part of it: inside to the resolution of a bisection."""
    return isinstance(threat, NeuralPerceptual) or any(perceives(part) for part in getattr(threat, "parts", ()))


def zero_image(threat, images):
    """x itself, or the documented image of the identity."""
    first = threat.members[0] if isinstance(threat, AnyOf) else threat
    return subsampled(images) if encodes(first) else images


def region_of(case, images, dtype=torch.float32):
    if images.shape[1] not in case.channels:
        pytest.skip(f"images of {images.shape[1]} channels are refused")
    network = tapped(channels=images.shape[1], dtype=dtype)
    threat = case.make(network)
    if encodes(threat) and images.shape[1] == 2:
        pytest.skip("a JPEG has 1 or 3 channels")
    return threat, network, threat.around(batch_of(images), network)


def wild(case, region, seed=0):
    """Params far outside."""
    identity = region.zero()
    noise = torch.randn(identity.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (case.spread * noise).to(identity)


def edgy(images):
    """Images with pixels on both ends of [0, 1]."""
    return (images * 1.4 - 0.2).clamp(0, 1)


@every_case
@pytest.mark.parametrize("shape", [SHAPES["odd"], SHAPES["gray"]], ids=["odd", "gray"])
def test_it_keeps_the_contract_of_threat_models(case, shape):
    threat, network, _ = region_of(case, edgy(random_images(4, *shape, dtype=torch.float64)), torch.float64)
    check_threat_model(
        threat,
        classifier=network,
        images=edgy(random_images(4, *shape, dtype=torch.float64)),
        zero_image=(lambda images: zero_image(threat, images)) if encodes(threat) else None,
        resolution=2**-9 if perceives(threat) else 1e-9,  # of a bisection
    )


@every_case
@every_shape
def test_projected_params_are_inside_by_another_measure_and_in_the_box(case, shape):
    images = edgy(random_images(4, *shape))
    threat, network, region = region_of(case, images)
    params = region.project(wild(case, region))
    changed = region.perturb(params)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert ((changed >= 0) & (changed <= 1)).all()
    assert (measured(threat, network, images, changed) <= threat.bound * (1 + 1e-4) + 1e-7).all()
    assert (region.size(params) <= 1 + 1e-4).all()


@every_case
@every_shape
def test_the_start_of_a_search_once_projected_is_inside(case, shape):
    images = edgy(random_images(4, *shape))
    threat, network, region = region_of(case, images)
    start = region.start(Noise(torch.arange(4)))
    if not perceives(threat):
        assert (region.size(start) <= 1 + 1e-4).all()
        assert ((region.perturb(start) >= 0) & (region.perturb(start) <= 1)).all()
    assert start.shape == region.zero().shape
    assert start.dtype == images.dtype
    inside = region.perturb(region.project(start))
    assert (measured(threat, network, images, inside) <= threat.bound * (1 + 1e-4) + 1e-7).all()


@every_case
@settings(deadline=None, max_examples=15)
@given(
    channels=st.integers(1, 3), height=st.integers(2, 6), width=st.integers(2, 6), seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 100.0]),
)  # fmt: skip
def test_whatever_is_projected_is_inside(case, channels, height, width, seed, scale):
    channels = channels if channels in case.channels else case.channels[0]
    assume(channels != 2 or not encodes(case.make(tapped(channels=2))))
    images = edgy(random_images(2, channels, height, width, seed=seed))
    threat, network, region = region_of(case, images)
    changed = region.perturb(region.project(scale * wild(case, region, seed)))
    assert ((changed >= 0) & (changed <= 1)).all()
    assert (measured(threat, network, images, changed) <= threat.bound * (1 + 1e-4) + 1e-7).all()


@every_case
@every_shape
def test_what_is_inside_is_left_where_it_is(case, shape):
    images = random_images(3, *shape, dtype=torch.float64) * 0.5 + 0.25
    threat, _, region = region_of(case, images, torch.float64)
    once = region.project(wild(case, region))
    halfway = once / 2
    if isinstance(threat, AnyOf):
        halfway[:, 0] = once[:, 0]  # the number of the member
    if perceives(threat):
        halfway[region.size(halfway) > 1] = 0
    assert region.project(halfway).allclose(halfway, rtol=0, atol=1e-12)


@every_case
def test_channels_last_images_are_the_same_region(case):
    images = edgy(random_images(3, 3, 6, 5))
    threat, network, region = region_of(case, images)
    last = threat.around(batch_of(images.contiguous(memory_format=torch.channels_last)), network)
    params = wild(case, region)
    for act in ("perturb", "project", "size"):
        assert getattr(last, act)(params).allclose(
            getattr(region, act)(params), rtol=0, atol=1e-3 if act == "project" else 1e-5
        )
    assert last.start(Noise(torch.arange(3))).equal(region.start(Noise(torch.arange(3))))


@pytest.mark.parametrize("name", ["linf", "l2", "self perceptual", "flow", "luv", "rgb"])
def test_a_large_step_ends_on_the_sphere(name):
    """Size 1, give or take the resolution of the projection."""
    images = random_images(3, 3, 6, 6) * 0.02 + 0.49
    _, _, region = region_of(CASES[name], images)
    far = region.ascend(region.zero() + 1e-3, wild(CASES[name], region), 5.0)
    assert region.size(region.project(far)).allclose(torch.ones(3), atol=0.05 if name == "self perceptual" else 1e-5)


DIFFERENTIABLE = [
    *("linf", "l2", "self perceptual", "flow", "rgb"),
    *("l1", "pixels", "jpeg", "linf+l2", "jpeg+l1", "linf|l2|l1", "flow|rgb"),
]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_through_the_images_are_right(name):
    images = random_images(2, 1, 3, 4, dtype=torch.float64)
    network = tapped(channels=1, activation=nn.Softplus, dtype=torch.float64)
    region = CASES[name].make(network).around(batch_of(images), network)
    params = (0.01 * wild(CASES[name], region)).requires_grad_()
    assert torch.autograd.gradcheck(region.perturb, params)
    assert torch.autograd.gradcheck(lambda p: region.forward(network, p).logits, params)
    if name == "self perceptual":
        assert torch.autograd.gradcheck(lambda p: region.forward(network, p).distance, params)
