"""The perceptual ball: an ellipsoid where φ is linear, and never left by a projection."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gauntlet.distances import LPIPS, SelfLPIPS
from gauntlet.noise import Noise
from gauntlet.threats import NeuralPerceptual
from tests.fixtures import Circle, Counting, Ellipsoid, batch_of, numpy_distance, random_images, tapped

DOUBLE = torch.float64


def ellipsoid(pixels, seed=0):
    """The ball ‖A δ‖ ≤ bound with a well-conditioned A."""
    random = torch.randn(pixels + 2, pixels, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return Ellipsoid(tapped(channels=1, dtype=DOUBLE), random)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.01, 0.5))
def test_projection_onto_an_ellipsoid_stops_on_its_surface(seed, bound):
    """δ·min(1, bound/‖A δ‖), from inside, up to 0.2 %."""
    distance = ellipsoid(6, seed)
    region = NeuralPerceptual(distance, bound).around(batch_of(torch.full((4, 1, 2, 3), 0.5, dtype=DOUBLE)))
    delta = random_images(4, 1, 2, 3, seed=seed, dtype=DOUBLE) - 0.5
    length = (delta.flatten(1) @ distance.matrix.T).norm(dim=1)
    share = (bound / length).clamp(max=1)

    projected = region.project(delta)
    result = (projected.flatten(1) * delta.flatten(1)).sum(1) / delta.flatten(1).square().sum(1)
    assert torch.cosine_similarity(projected.flatten(1), delta.flatten(1))[result > 0].allclose(
        torch.ones(1, dtype=DOUBLE)
    )
    assert (result <= share + 1e-12).all()
    assert (result >= share * (1 - 0.002) - 1e-12).all()
    assert region.size(delta).allclose(length / bound)


@pytest.mark.parametrize("step", [0.1, 0.5, 1.0])
def test_a_step_in_an_ellipsoid_is_as_long_as_asked(step):
    """For a linear φ the finite difference is exact."""
    region = NeuralPerceptual(ellipsoid(6), 0.2).around(batch_of(torch.full((3, 1, 2, 3), 0.5, dtype=DOUBLE)))
    gradient = torch.randn(3, 1, 2, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    moved = region.ascend(region.zero(), gradient, step)
    assert region.size(moved).allclose(torch.full((3,), step, dtype=DOUBLE), rtol=1e-3)
    assert torch.cosine_similarity(moved.flatten(1), gradient.flatten(1)).allclose(torch.ones(3, dtype=DOUBLE))


def test_a_ball_on_a_circle_has_its_closed_form():
    """d = 2 sin(k δ/2) for a constant δ, so the surface lies at δ = 2 arcsin(bound/2)/k."""
    network = Circle(2.0).double().eval()
    region = NeuralPerceptual(LPIPS(network), 0.5).around(batch_of(torch.full((1, 1, 3, 3), 0.2, dtype=DOUBLE)))
    surface = 2 * torch.tensor(0.25, dtype=DOUBLE).asin() / 2.0
    params = torch.full((1, 1, 3, 3), surface.item(), dtype=DOUBLE)
    assert region.size(params).item() == pytest.approx(1.0)
    projected = region.project(torch.full((1, 1, 3, 3), 0.7, dtype=DOUBLE))
    assert surface * (1 - 2**-8) < projected.max() <= surface


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    bound=st.floats(0, 1.5),
    spread=st.sampled_from([0.01, 0.3, 3.0]),
    network=st.integers(0, 5),
)
def test_a_projection_is_never_outside(seed, bound, spread, network):
    """Also where d is not monotone on the way, and measured again by another formula."""
    network = tapped(channels=2, seed=network)
    images = random_images(3, 2, 5, 4, seed=seed)
    region = NeuralPerceptual(LPIPS(network), bound).around(batch_of(images))
    delta = spread * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    changed = region.perturb(region.project(delta))
    assert ((changed >= 0) & (changed <= 1)).all()
    assert (numpy_distance(network, images, changed) <= bound * (1 + 1e-4) + 1e-6).all()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), bound=st.floats(0.05, 0.5))
def test_a_projected_point_lies_between_the_image_and_the_point(seed, bound):
    images = random_images(3, 3, 5, 4, seed=seed, dtype=DOUBLE)
    network = tapped(dtype=DOUBLE)
    region = NeuralPerceptual(LPIPS(network), bound).around(batch_of(images))
    target = random_images(3, 3, 5, 4, seed=seed + 1, dtype=DOUBLE)
    share = region.project(target - images).flatten(1) / (target - images).flatten(1)
    assert share.sub(share.mean(1, keepdim=True)).abs().max() < 1e-9
    assert (share >= -1e-12).all()
    assert (share <= 1 + 1e-12).all()


def test_one_example_far_outside_does_not_move_the_others():
    images = random_images(3, 3, 6, 6, dtype=DOUBLE) * 0.5 + 0.25
    network = tapped(dtype=DOUBLE)
    region = NeuralPerceptual(SelfLPIPS(), 0.3).around(batch_of(images), network)
    calm = 1e-3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    mixed = calm.clone()
    mixed[1] = 50 * calm[1] / 1e-3
    assert (region.size(calm) < 1).all()
    projected = region.project(mixed)
    assert projected[[0, 2]].allclose(calm[[0, 2]], rtol=0, atol=1e-15)
    assert region.size(projected)[1] <= 1


def test_points_inside_are_unchanged():
    images = random_images(4, 3, 6, 6)
    region = NeuralPerceptual(LPIPS(tapped()), 0.5).around(batch_of(images))
    delta = region.clip(0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)))
    assert (region.size(delta) < 1).all()
    assert region.project(delta).allclose(delta, rtol=0, atol=1e-7)
    assert region.perturb(region.project(delta)).allclose(region.perturb(delta), rtol=0, atol=1e-7)


def test_less_waste_comes_closer_to_the_surface():
    images = torch.full((4, 1, 2, 3), 0.5, dtype=DOUBLE)
    region = NeuralPerceptual(ellipsoid(6), 0.05).around(batch_of(images))
    delta = random_images(4, 1, 2, 3, dtype=DOUBLE) - 0.5
    coarse, fine = (region.size(region.bisect(delta, waste)) for waste in (0.2, 1e-6))
    assert (coarse < fine).all()
    assert (coarse >= 0.8).all()
    assert (fine <= 1).all()
    assert fine.min() > 1 - 1e-6


def test_the_start_is_gaussian_with_the_papers_deviation():
    """N(0, 0.01²), not clamped (Laidlaw et al. 2021, appendix)."""
    region = NeuralPerceptual(LPIPS(tapped()), 0.5).around(batch_of(torch.zeros(500, 3, 4, 4)))
    start = region.start(Noise(torch.arange(500)))
    assert start.std().item() == pytest.approx(0.01, rel=0.02)
    assert start.min() < 0


def test_the_self_bounded_ball_is_seen_by_the_classifier():
    images, others = random_images(2, 3, 6, 6), random_images(2, 3, 6, 6, seed=1)
    one, other = tapped(seed=0), tapped(seed=1)
    for network in (one, other):
        size = NeuralPerceptual(SelfLPIPS(), 0.5).around(batch_of(images), network).size(others - images).numpy()
        assert size == pytest.approx(numpy_distance(network, images, others) / 0.5, rel=1e-4)


def test_a_fixed_ball_ignores_the_classifier():
    images, others = random_images(2, 3, 6, 6), random_images(2, 3, 6, 6, seed=1)
    threat = NeuralPerceptual(LPIPS(tapped(seed=0)), 0.5)
    size = threat.around(batch_of(images), tapped(seed=1)).size(others - images)
    assert size.equal(threat.around(batch_of(images)).size(others - images))


def test_the_self_bounded_ball_without_a_classifier_or_taps_is_refused():
    threat = NeuralPerceptual(SelfLPIPS(), 0.5)
    with pytest.raises(ValueError, match="classifier under attack, and none was given"):
        threat.around(batch_of(torch.zeros(1, 3, 4, 4)))
    with pytest.raises(TypeError, match="choose a model with taps"):
        threat.around(batch_of(torch.zeros(1, 3, 4, 4)), nn.Conv2d(3, 2, 1))


@pytest.mark.parametrize("bound", [-0.1, float("nan")])
def test_a_negative_bound_is_refused(bound):
    with pytest.raises(ValueError, match="perceptual bound"):
        NeuralPerceptual(SelfLPIPS(), bound)


def test_the_self_bounded_distance_shares_the_forward_of_the_classifier():
    network = tapped()
    forwards = []
    network.stages[0].register_forward_hook(lambda *_: forwards.append(1))
    for distance in (SelfLPIPS(), LPIPS(network)):
        region = NeuralPerceptual(distance, 0.5).around(batch_of(random_images(2, 3, 4, 4)), network)
        forwards.clear()
        output = region.forward(network, region.zero() + 0.01)
        assert len(forwards) == 1
        assert output.logits.equal(network(region.images + 0.01))


def test_looking_through_another_network_is_one_forward_of_each():
    phi_network, classifier = tapped(seed=1), Counting(tapped())
    forwards = []
    phi_network.stages[0].register_forward_hook(lambda *_: forwards.append(1))
    region = NeuralPerceptual(LPIPS(phi_network), 0.5).around(batch_of(random_images(2, 3, 4, 4)), classifier)
    assert (len(forwards), classifier.batches) == (1, [])
    region.forward(classifier, region.zero() + 0.01)
    assert (len(forwards), classifier.batches) == (2, [2])


def test_no_search_starts_outside_the_box_and_counts_as_inside():
    images = torch.zeros(1, 3, 6, 6)
    network = tapped()
    region = NeuralPerceptual(SelfLPIPS(), 3.0).around(batch_of(images), network)
    for params, inside in ((torch.full_like(images, -1e-3), False), (torch.full_like(images, 1e-3), True)):
        assert region.inside(params, region.forward(network, params)).tolist() == [inside]
