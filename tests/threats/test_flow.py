"""Flow fields against an independent sampler and what can be computed by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional as F

from gauntlet.attacks import PGD
from gauntlet.noise import Noise
from gauntlet.threats import StAdv
from gauntlet.threats.smoothness import roughness
from tests.fixtures import LinearClassifier, batch_of, random_images
from tests.threats.oracles import warped

DOUBLE = torch.float64


def flows(*shape, scale, seed=0, dtype=DOUBLE):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.01, 0.3, 3.0]),
)
def test_the_images_are_the_bilinear_samples_of_the_flow(height, width, channels, seed, scale):
    """By a sum over all pixels, each a tent; also for flows that leave the image by far."""
    images = random_images(2, channels, height, width, seed=seed, dtype=DOUBLE)
    flow = flows(2, 2, height, width, scale=scale, seed=seed)
    changed = StAdv(0.1).around(batch_of(images)).perturb(flow)
    assert changed.allclose(torch.from_numpy(warped(images.numpy(), flow.numpy())), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (DOUBLE, 1e-12)])
@pytest.mark.parametrize("scale", [0.0, 0.05, 1.0])
def test_it_samples_as_torch_does(dtype, tolerance, scale):
    """`grid_sample` with the pixels' outer edges at ±1 and zeros outside."""
    images = random_images(3, 3, 13, 32, dtype=dtype)
    flow = flows(3, 2, 13, 32, scale=scale, dtype=dtype).requires_grad_()
    down, across = ((2 * torch.arange(side, dtype=dtype) + 1) / side - 1 for side in (13, 32))
    place = torch.stack((across.expand(13, 32) + flow[:, 0], down[:, None].expand(13, 32) + flow[:, 1]), -1)
    expected = F.grid_sample(images, place, align_corners=False)
    changed = StAdv(0.1).around(batch_of(images)).perturb(flow)
    assert changed.allclose(expected, rtol=0, atol=tolerance)
    if scale:  # at 0 the sampler has a kink and rounding decides the side
        weight = random_images(3, 3, 13, 32, seed=1, dtype=dtype)
        ours, theirs = (torch.autograd.grad((made * weight).sum(), flow)[0] for made in (changed, expected))
        assert (ours - theirs).abs().quantile(0.999) < 1e3 * tolerance


@pytest.mark.parametrize("shape", [(3, 224, 224), (3, 37, 101), (1, 28, 28), (3, 1, 1)])
def test_no_flow_is_the_image_to_the_last_bit(shape):
    images = random_images(2, *shape)
    region = StAdv(0.05).around(batch_of(images))
    assert region.perturb(region.zero()).equal(images)


def test_a_flow_of_one_pixel_to_the_right_shows_the_right_neighbour():
    images = random_images(2, 3, 4, 5, dtype=DOUBLE)
    flow = torch.zeros(2, 2, 4, 5, dtype=DOUBLE)
    flow[:, 0] = 2 / 5
    changed = StAdv(1.0).around(batch_of(images)).perturb(flow)
    assert changed[..., :-1].allclose(images[..., 1:], rtol=0, atol=1e-12)
    assert changed[..., -1].abs().max() < 1e-12
    flow = torch.zeros(2, 2, 4, 5, dtype=DOUBLE)
    flow[:, 1] = -2 / 4
    changed = StAdv(1.0).around(batch_of(images)).perturb(flow)
    assert changed[..., 1:, :].allclose(images[..., :-1, :], rtol=0, atol=1e-12)


def test_the_edge_turns_half_black_and_the_corner_three_quarters_at_most():
    """No sample is taken beyond the outer edge, half a pixel from the border's centres."""
    white = torch.ones(1, 1, 6, 4, dtype=DOUBLE)
    region = StAdv(1.0).around(batch_of(white))
    outwards = torch.zeros(1, 2, 6, 4, dtype=DOUBLE)
    outwards[:, 0, :, 0], outwards[:, 0, :, -1], outwards[:, 1, 0], outwards[:, 1, -1] = -9, 9, -9, 9
    changed = region.perturb(region.project(outwards))[0, 0]
    assert changed[1:-1, 1:-1].allclose(torch.ones(4, 2, dtype=DOUBLE))
    assert changed[1:-1, [0, -1]].allclose(torch.full((4, 2), 0.5, dtype=DOUBLE))
    assert changed[[0, 0, -1, -1], [0, -1, 0, -1]].allclose(torch.full((4,), 0.25, dtype=DOUBLE))


def test_the_bound_is_in_units_of_the_half_image():
    """0.05 is 0.8 pixel at 32 × 32."""
    region = StAdv(0.05).around(batch_of(torch.arange(32.0).expand(1, 1, 32, 32) / 31))
    flow = region.project(torch.ones(1, 2, 32, 32))
    moved = (region.perturb(flow) - region.images) * 31
    assert moved[0, 0, 1:-1, 1:-2].allclose(torch.full((30, 29), 0.8), atol=1e-4)
    assert region.size(flow).item() == pytest.approx(1)


def test_roughness_of_one_displaced_pixel():
    """Four neighbours, met from both sides, and one less at every edge."""
    field = torch.zeros(3, 2, 5, 6, dtype=DOUBLE)
    field[0, :, 2, 3] = field[1, :, 0, 3] = field[2, :, 0, 0] = torch.tensor([0.3, 0.4])
    assert roughness(field).allclose(torch.tensor([8.0, 6.0, 4.0], dtype=DOUBLE) * 0.5, rtol=1e-4)
    assert StAdv(0.05).around(batch_of(torch.zeros(3, 1, 5, 6))).penalty(field.float())[0].item() == pytest.approx(
        0.05 * 4, rel=1e-4
    )


def test_a_rigid_shift_is_smooth():
    region = StAdv(0.05).around(batch_of(random_images(2, 3, 5, 6)))
    assert region.penalty(torch.full((2, 2, 5, 6), 0.03)).tolist() == [0, 0]


def test_the_penalty_has_a_gradient_everywhere():
    flow = flows(2, 2, 4, 3, scale=0.01).requires_grad_()
    region = StAdv(0.05).around(batch_of(random_images(2, 3, 4, 3, dtype=DOUBLE)))
    assert torch.autograd.gradcheck(region.penalty, flow)
    flat = region.zero().requires_grad_()
    assert not torch.autograd.grad(region.penalty(flat).sum(), flat)[0].any()


@pytest.mark.parametrize("threat", [StAdv(0.0), StAdv(0.05, smoothness=0)])
def test_nothing_is_charged_at_bound_0_or_weight_0(threat):
    region = threat.around(batch_of(random_images(2, 3, 4, 4)))
    flow = flows(2, 2, 4, 4, scale=0.1, dtype=torch.float32)
    assert region.penalty(flow).tolist() == [0, 0]


def test_gradients_reach_the_images_it_is_laid_around():
    """A composition warps what another threat model made."""
    images = random_images(2, 2, 4, 3, dtype=DOUBLE).requires_grad_()
    flow = flows(2, 2, 4, 3, scale=0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, f: StAdv(1.0).around(batch_of(x)).perturb(f), (images, flow))


def test_it_starts_at_the_image_or_uniformly_within_the_spread():
    images = random_images(500, 1, 4, 4)
    assert not StAdv(0.05).around(batch_of(images)).start(Noise(torch.arange(500))).any()
    start = StAdv(0.05, spread=0.5).around(batch_of(images)).start(Noise(torch.arange(500))).flatten().double().numpy()
    assert stats.kstest(start / 0.05 + 0.5, "uniform").pvalue > 1e-3
    restarted = StAdv(0.05, spread=0.5).around(batch_of(images)).start(Noise(torch.arange(500)).stream(1))
    assert (restarted.flatten() != torch.from_numpy(start)).float().mean() > 0.99


def test_autocast_changes_nothing():
    images = random_images(2, 3, 8, 8)
    flow = flows(2, 2, 8, 8, scale=0.1, dtype=torch.float32)
    plain = StAdv(0.05).around(batch_of(images)).perturb(flow)
    with torch.autocast("cpu", torch.bfloat16):
        assert StAdv(0.05).around(batch_of(images)).perturb(flow).equal(plain)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_pgd_reaches_the_worst_warp_of_a_ramp(batch):
    """On a horizontal ramp a pixel changes by its slope times the flow, so a linear margin has a known optimum."""
    classifier = LinearClassifier(features=2 * 6 * 8, bias=1e3)
    weight = classifier.weight.data.reshape(2, 6, 8)
    weight[:, [0, -1]], weight[:, :, [0, -1]] = 0, 0  # the edge is darkened, not only moved
    images = (0.2 + 0.06 * torch.arange(8.0)).expand(batch, 2, 6, 8)
    labels = torch.zeros(batch, dtype=torch.long)

    attack = PGD(threat_model=StAdv(0.2, smoothness=0), steps=20)
    rise = classifier.margin(attack(classifier, images, labels).images, labels) - classifier.margin(images, labels)
    optimum = 2 * (0.06 * 0.2 * 8 / 2) * weight.sum(0).abs().sum().item()
    assert rise.tolist() == pytest.approx([optimum] * batch, rel=0.01)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"bound": 0.8 * 2}, r"bound 1.6 is not in \[0, 1\]"),
        ({"bound": -0.1}, "write 0.05, not 0.8 pixel"),
        ({"bound": float("nan")}, "is not in"),
        ({"bound": 0.05, "smoothness": -1}, "smoothness -1 is not a weight"),
        ({"bound": 0.05, "smoothness": float("nan")}, "smoothness nan"),
        ({"bound": 0.05, "spread": 1.5}, "spread 1.5 is not a share"),
    ],
)
def test_nonsense_is_refused_in_one_line(wrong, says):
    with pytest.raises(ValueError, match=says):
        StAdv(**wrong)
