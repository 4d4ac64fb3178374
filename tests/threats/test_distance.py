"""The distance of a region: closed forms in the threat model's own unit, in float64, whatever the bound is."""

import numpy as np
import pytest
import torch

from gauntlet.distances import LPIPS
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
from tests.fixtures import Ellipsoid, batch_of, numpy_distance, random_images, tapped

IMAGES = torch.full((2, 3, 16, 16), 0.5)


def one(value, *shape, at):
    """Zeros for two examples, and one number in the first."""
    params = torch.zeros(2, *shape)
    params[(0, *at)] = value
    return params


DELTA = one(0.25, 3, 16, 16, at=(0, 0, 0)) + one(-0.125, 3, 16, 16, at=(1, 0, 0)) + one(0.5, 3, 16, 16, at=(2, 1, 1))
"""Two pixels of the first image change, by (1/4, −1/8, 0) and (0, 0, 1/2), which float32 holds exactly."""
LENGTH = (0.25**2 + 0.125**2 + 0.5**2) ** 0.5
CLOSED_FORMS = {
    "linf": (Linf, DELTA, 0.5),
    "l2": (L2, DELTA, LENGTH),
    "l1": (L1, DELTA, 0.875),
    "l0": (lambda bound: L0(2), DELTA, 2),
    "pixels": (ChangedPixels, DELTA, 2 / 256),
    "flow": (StAdv, one(-0.25, 2, 16, 16, at=(1, 3, 4)), 0.25),
    "rgb": (lambda bound: ReColorAdv(bound, RGB(), [3, 3, 3]), one(-0.03125, 3, 3, 3, 3, at=(1, 2, 0, 1)), 0.03125),
    "jpeg": (AdversarialJPEG, one(0.75, 6, 64, at=(3, 5)), 0.75),
    "perceptual": (lambda bound: NeuralPerceptual(Ellipsoid(tapped(), 3 * torch.eye(768)), bound), DELTA, 3 * LENGTH),
}


@pytest.mark.parametrize("bound", [0.0, 1e-3, 0.3, 1.0])
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_it_is_the_closed_form_at_every_bound(name, bound):
    make, params, expected = CLOSED_FORMS[name]
    distance = make(bound).around(batch_of(IMAGES)).distance(params)
    assert distance.dtype == torch.float64
    assert distance.tolist() == pytest.approx([expected, 0.0], rel=1e-12, abs=0)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.1), L1(0.1)])
def test_of_pixels_it_is_what_float64_says_of_the_two_images(threat):
    """Not of δ: x + δ is rounded, and the image is what is shown."""
    images, delta = random_images(4, 3, 5, 7), random_images(4, 3, 5, 7, seed=1) * 1e-4
    region = threat.around(batch_of(images))
    change = (region.perturb(delta).numpy().astype(np.float64) - images.numpy().astype(np.float64)).reshape(4, -1)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[threat.name]
    assert region.distance(delta).numpy() == pytest.approx(np.linalg.norm(change, order, axis=1), rel=1e-14, abs=0)
    assert not np.allclose(change, delta.numpy().reshape(4, -1), rtol=1e-6, atol=0)


def test_a_change_that_rounding_swallows_is_none():
    """1e-9 added to 0.5 is 0.5 in float32."""
    for threat in (Linf(0.1), L2(0.1), L1(0.1), ChangedPixels(0.1)):
        assert threat.around(batch_of(IMAGES)).distance(torch.full_like(IMAGES, 1e-9)).tolist() == [0, 0]


def test_as_many_pixels_as_a_bound_allows_are_no_farther_than_the_bound():
    """0.29 of 100 positions are 29, though the nearest float64 to 0.29 times 100 is below 29."""
    region = ChangedPixels(0.29).around(batch_of(torch.full((1, 1, 10, 10), 0.5)))
    delta = region.project(torch.ones(1, 1, 10, 10))
    assert (delta != 0).sum() == 29
    assert region.distance(delta).item() <= 0.29


def test_of_a_network_it_is_the_papers_formula_in_float64():
    network, images = tapped(), random_images(3, 3, 8, 6)
    region = NeuralPerceptual(LPIPS(network), 0.5).around(batch_of(images))
    delta = region.clip(random_images(3, 3, 8, 6, seed=1) - 0.5)
    expected = numpy_distance(network, images, region.perturb(delta))
    assert region.distance(delta).numpy() == pytest.approx(expected, rel=1e-5)
    assert region.distance(delta).dtype == torch.float64


def test_of_a_composition_it_is_the_largest_share_of_a_parts_bound():
    """0.02 of 0.05 and 0.06 of 0.1: 0.6."""
    region = Composition([Linf(0.05), Linf(0.1)]).around(batch_of(IMAGES[:1]))
    params = torch.cat((torch.full((1, 768), 0.02), torch.full((1, 768), -0.06)), 1)
    assert region.distance(params).item() == pytest.approx(0.6, rel=1e-5)


def test_of_a_union_it_is_a_share_of_the_bound_of_each_examples_member():
    union = AnyOf([Linf(0.05), L2(2.0)]).around(batch_of(IMAGES))
    params = torch.cat((union.pack(0, DELTA.abs() / 10)[:1], union.pack(1, DELTA.roll(1, 0))[1:]))
    assert union.distance(params).tolist() == pytest.approx([1.0, LENGTH / 2], rel=1e-6)


def test_of_bounds_of_0_it_is_0_at_the_zero_params_and_infinite_elsewhere():
    union = AnyOf([Linf(0.0), L2(0.0)]).around(batch_of(IMAGES))
    assert union.distance(union.pack(1, DELTA)).tolist() == [float("inf"), 0]
