"""The L∞ and L2 balls, in closed form."""

import pytest
import torch
from scipy import stats

from gauntlet.noise import Noise
from gauntlet.threats import L2, Linf
from tests.fixtures import batch_of


def test_linf_projects_every_pixel_by_itself():
    images = torch.tensor([0.5, 0.5, 0.05, 0.95, 0.0]).reshape(1, 1, 1, 5)
    delta = torch.tensor([0.3, -0.05, -0.1, 0.1, -1.0]).reshape(1, 1, 1, 5)
    expected = torch.tensor([0.1, -0.05, -0.05, 0.05, 0.0]).reshape(1, 1, 1, 5)
    assert Linf(0.1).around(batch_of(images)).project(delta).allclose(expected)


def test_l2_scales_onto_the_sphere_then_clamps():
    images = torch.tensor([0.5, 0.5, 0.9]).reshape(1, 1, 1, 3)
    delta = torch.tensor([3.0, 0.0, 4.0]).reshape(1, 1, 1, 3)
    assert L2(0.5).around(batch_of(images)).project(delta).allclose(torch.tensor([0.3, 0.0, 0.1]).reshape(1, 1, 1, 3))


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("threat", "length"), [(Linf(0.1), 0.02), (L2(0.5), 0.1)])
def test_a_step_is_as_long_as_asked_whatever_the_scale_of_the_gradient(threat, length, scale):
    """A saturated loss has a tiny gradient; a step that shrinks with it would be masking."""
    images = torch.full((2, 3, 4, 4), 0.5, dtype=torch.float64)
    gradient = scale * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    region = threat.around(batch_of(images))
    moved = region.ascend(region.zero(), gradient, 0.2).flatten(1)
    assert moved.norm(p=float("inf") if isinstance(threat, Linf) else 2, dim=1).allclose(
        torch.full((2,), length, dtype=torch.float64), rtol=1e-2
    )
    along = gradient.flatten(1).sign() if isinstance(threat, Linf) else gradient.flatten(1)
    assert torch.cosine_similarity(moved, along / along.norm(dim=1, keepdim=True)).allclose(
        torch.ones(2, dtype=torch.float64)
    )


@pytest.mark.parametrize(("threat", "delta"), [(Linf(0.2), 0.2), (L2(0.2 * 48**0.5), 0.2)])
def test_size_is_1_on_the_sphere_and_a_share_inside(threat, delta):
    region = threat.around(batch_of(torch.full((2, 3, 4, 4), 0.5)))
    params = torch.full((2, 3, 4, 4), delta)
    assert region.size(params).allclose(torch.ones(2))
    assert region.size(params / 4).allclose(torch.full((2,), 0.25))
    assert region.project(params).allclose(params)


def test_linf_starts_uniformly_in_the_ball():
    start = Linf(0.1).around(batch_of(torch.full((2000, 1, 4, 4), 0.5))).start(Noise(torch.arange(2000)))
    assert stats.kstest(start.flatten().double().numpy() / 0.2 + 0.5, "uniform").pvalue > 1e-3


def test_l2_starts_uniformly_in_the_ball():
    """‖δ‖ is bound · U^(1/D), and no direction is preferred."""
    start = (
        L2(0.1).around(batch_of(torch.full((3000, 1, 2, 3), 0.5))).start(Noise(torch.arange(3000))).flatten(1).double()
    )
    radius = start.norm(dim=1) / 0.1
    assert stats.kstest((radius**6).numpy(), "uniform").pvalue > 1e-3
    covariance = (start / start.norm(dim=1, keepdim=True)).T.cov()
    assert covariance.allclose(torch.eye(6, dtype=torch.float64) / 6, atol=0.015)


@pytest.mark.parametrize("bound", [8, 1.001, -0.1, float("nan"), float("inf")])
def test_an_linf_bound_outside_0_to_1_says_what_to_write(bound):
    with pytest.raises(ValueError, match=r"bounds are in pixel units; write 8/255, not 8"):
        Linf(bound)


@pytest.mark.parametrize("bound", [-1, float("nan"), float("inf")])
def test_a_negative_or_infinite_l2_bound_is_refused(bound):
    with pytest.raises(ValueError, match="is negative"):
        L2(bound)


@pytest.mark.parametrize("bound", [128, 255])
def test_an_l2_bound_longer_than_any_change_says_what_to_write(bound):
    with pytest.raises(ValueError, match="divide by 255"):
        L2(bound).around(batch_of(torch.zeros(2, 3, 32, 32)))


def test_the_longest_possible_l2_bound_is_allowed():
    L2((3 * 8 * 8) ** 0.5).around(batch_of(torch.zeros(2, 3, 8, 8)))


@pytest.mark.parametrize("bound", [1e-8, 3e-8, 1e-7, 1e-6, 0.01 / 255, 0.1 / 255, 1 / 255, 8 / 255, 0.5])
def test_linf_stays_in_the_bound_of_float32_on_every_8_bit_pixel(bound):
    """For x = k/255, x ± bound overshoots by rounding: at 8/255 by a millionth of it, at 0.01/255 by a thousandth."""
    images = (torch.arange(256) / 255).reshape(1, 1, 16, 16).repeat(2, 1, 1, 1)
    region = Linf(bound).around(batch_of(images))
    params = region.project(torch.stack((torch.ones(1, 16, 16), -torch.ones(1, 16, 16))))
    changed = region.perturb(params)
    moved = (changed.double() - images.double()).abs()
    assert ((changed >= 0) & (changed <= 1)).all()
    assert moved.max() <= bound * (1 + 1e-7)
    assert (region.size(params) <= 1).all()
    room = torch.stack((1 - images[0], images[1])).double().clamp(max=bound)
    assert (moved >= room - torch.finfo(torch.float32).eps).all(), "a number farther would be too far"
