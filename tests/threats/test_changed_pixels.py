"""Changed pixels: how many, which, and the optimum of a linear classifier."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.attacks import PGD
from gauntlet.noise import Noise
from gauntlet.threats import ChangedPixels
from tests.fixtures import LinearClassifier, batch_of, random_images

DOUBLE = torch.float64


@pytest.mark.parametrize(
    ("bound", "height", "width", "count"),
    [(0, 9, 9, 0), (0.02, 32, 32, 20), (1e-9, 5, 5, 1), (0.29, 10, 10, 29), (1.0, 7, 3, 21), (0.5, 1, 1, 1)],
)
def test_how_many_pixels_may_change(bound, height, width, count):
    """⌊bound · H · W⌋, at least 1; 0.29 · 100 is 28.999… in floating point and still 29."""
    images = random_images(3, 2, height, width)
    region = ChangedPixels(bound).around(batch_of(images))
    assert region.count == count
    changed = region.perturb(region.project(random_images(3, 2, height, width, seed=1) - images + 1e-3))
    assert (changed != images).any(1).flatten(1).sum(1).tolist() == [count] * 3


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 5))
def test_the_projection_is_the_nearest_of_all_sets_of_pixels(seed, count):
    """Beside every subset of six pixels."""
    x = random_images(1, 2, 2, 3, seed=seed, dtype=DOUBLE)
    requested = 3 * random_images(1, 2, 2, 3, seed=seed + 1, dtype=DOUBLE) - 1.5
    clipped = (x + requested).clamp(0, 1) - x
    distances = []
    for subset in itertools.combinations(range(6), count):
        kept = torch.zeros(6, dtype=DOUBLE)
        kept[list(subset)] = 1
        distances.append((requested - clipped * kept.reshape(1, 1, 2, 3)).norm())
    result = ChangedPixels(count / 6).around(batch_of(x)).project(requested)
    assert (requested - result).norm().item() == pytest.approx(min(distances).item(), abs=1e-12)


def test_of_equal_pixels_the_first_are_kept():
    images = torch.full((2, 1, 3, 3), 0.5)
    kept = ChangedPixels(0.34).around(batch_of(images)).project(torch.full((2, 1, 3, 3), 0.1))
    assert kept.flatten(1).gt(0).tolist() == [[True] * 3 + [False] * 6] * 2


@pytest.mark.parametrize("shape", [(3, 7, 5), (1, 4, 9), (1, 1, 1)])
@pytest.mark.parametrize("bound", [0.0, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_pgd_reaches_the_worst_case_of_a_linear_classifier(shape, bound, batch):
    """The pixels of largest Σ |w| · (way to the end of [0, 1]), each at that end."""
    classifier = LinearClassifier(torch.Size(shape).numel(), bias=1e3, dtype=DOUBLE)
    images = random_images(batch, *shape, dtype=DOUBLE).mul(1.4).sub(0.2).clamp(0, 1)
    labels = torch.zeros(batch, dtype=torch.long)
    weight = classifier.weight.detach().reshape(shape)
    worth = torch.where(weight > 0, images * weight, (images - 1) * weight).sum(1).flatten(1)
    region = ChangedPixels(bound).around(batch_of(images))
    best = 2 * worth.sort(1, descending=True).values[:, : region.count].sum(1)
    attacked = PGD(threat_model=ChangedPixels(bound), steps=40)(
        classifier, images, labels, seeds=torch.arange(batch)
    ).images
    rise = classifier.margin(attacked, labels) - classifier.margin(images, labels)
    assert rise.allclose(best, rtol=1e-9, atol=1e-9)


def test_a_step_moves_its_share_of_the_pixels():
    region = ChangedPixels(0.4).around(batch_of(torch.full((1, 3, 5, 5), 0.5)))
    gradient = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    for step, moved in ((0.1, 1), (0.3, 3), (1.0, 10), (2.0, 10)):
        assert region.ascend(region.zero(), gradient, step).any(1).sum() == moved
    assert region.ascend(region.zero(), 1e-30 * gradient, 0.3).equal(region.ascend(region.zero(), gradient, 0.3))


def test_it_starts_at_any_pixels_with_any_colour():
    images = torch.full((4000, 2, 2, 4), 0.25)
    region = ChangedPixels(0.25).around(batch_of(images))
    start = region.start(Noise(torch.arange(4000)))
    changed = start.any(1).flatten(1)
    assert (changed.sum(1) == 2).all()
    assert changed.float().mean(0).allclose(torch.full((8,), 0.25), atol=0.03)
    colours = (images + start).movedim(1, 3)[start.any(1)]
    assert colours.mean().item() == pytest.approx(0.5, abs=0.01)
    assert region.size(start).eq(1).all()


@pytest.mark.parametrize("bound", [-0.1, 1.01, 20, float("nan")])
def test_a_bound_that_is_no_share_says_what_to_write(bound):
    with pytest.raises(ValueError, match=r"it is a share of all positions; write 0\.02"):
        ChangedPixels(bound)
