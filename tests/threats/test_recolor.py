"""Colour maps against an independent lookup and what can be computed by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gauntlet.attacks import PGD
from gauntlet.noise import Noise
from gauntlet.threats import LUV, RGB, ReColorAdv
from tests.fixtures import LinearClassifier, batch_of, random_images
from tests.threats.oracles import looked_up, luv_of, rgb_of
from tests.threats.test_colour import cube

DOUBLE = torch.float64
SATURATED = torch.tensor([[r, g, b] for r in (0.0, 1.0) for g in (0.0, 1.0) for b in (0.0, 1.0)])


def tables(region, scale, seed=0):
    identity = region.zero()
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(identity.shape, generator=generator, dtype=DOUBLE)).to(identity)


@pytest.mark.parametrize("space", [LUV(), RGB()])
def test_no_offset_is_the_image_to_the_last_bit(space):
    """All of the gamut, corners included, at the resolution of the paper."""
    images = torch.cat((cube(25, torch.float32), random_images(1, 3, 625, 25)))
    region = ReColorAdv(0.06, space).around(batch_of(images))
    assert region.perturb(region.zero()).equal(images)


@settings(deadline=None, max_examples=20)
@given(
    sizes=st.lists(st.integers(2, 6), min_size=3, max_size=3),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.01, 0.06, 0.3]),
)
def test_colours_move_by_the_table_at_their_place(sizes, seed, scale):
    """By a lookup one axis after the other, in numpy: LUV → offset → RGB → clamp."""
    images = random_images(1, 3, 4, 3, seed=seed, dtype=DOUBLE)
    region = ReColorAdv(1.0, resolution=sizes).around(batch_of(images))
    table = tables(region, scale, seed)

    luv = luv_of(images.numpy())
    normal = (luv + np.array([0, 100, 100])[:, None, None]) / np.array([100, 200, 200])[:, None, None]
    low, high = (np.array(end) for end in LUV().range(3))
    positions = (normal[0].reshape(3, -1).T - low) / (high - low) * (np.array(sizes) - 1)
    offsets = looked_up(np.moveaxis(table[0].numpy(), 0, -1), positions).T.reshape(1, 3, 4, 3)
    assert region.offsets(table).allclose(torch.from_numpy(offsets), rtol=0, atol=1e-10)

    moved = luv + offsets * np.array([100, 200, 200])[:, None, None]
    real = np.isfinite(moved) & (moved[:, :1] > 1)
    expected = np.clip(rgb_of(np.where(real, moved, 50.0)), 0, 1)
    changed = region.perturb(table).numpy()
    shown = ((expected > 0) & (expected < 1)).all(1, keepdims=True) & real
    assert np.abs((changed - expected) * shown).max() < 1e-9
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_a_constant_table_moves_every_colour_alike():
    images = random_images(2, 3, 6, 5, dtype=DOUBLE) * 0.2 + 0.4
    region = ReColorAdv(0.06).around(batch_of(images))
    table = torch.tensor([0.05, -0.02, 0.03], dtype=DOUBLE).reshape(1, 3, 1, 1, 1).expand_as(region.zero())
    moved = luv_of(region.perturb(table).numpy()) - luv_of(images.numpy())
    assert np.allclose(moved, np.array([5, -4, 6])[:, None, None], rtol=0, atol=1e-8)
    assert region.size(table).allclose(torch.full((2,), 0.05 / 0.06, dtype=DOUBLE))


def test_in_rgb_a_constant_table_is_added_and_clamped():
    images = random_images(2, 3, 6, 5, dtype=DOUBLE)
    region = ReColorAdv(0.3, RGB(), resolution=[5, 4, 3]).around(batch_of(images))
    table = torch.tensor([0.3, -0.2, 0.1], dtype=DOUBLE).reshape(1, 3, 1, 1, 1).expand_as(region.zero())
    expected = (images + torch.tensor([0.3, -0.2, 0.1], dtype=DOUBLE).reshape(3, 1, 1)).clamp(0, 1)
    assert region.perturb(table).allclose(expected, rtol=0, atol=1e-12)


def test_a_gray_image_has_a_curve_of_tones():
    """Along one channel, linear between the vertices."""
    images = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=DOUBLE).reshape(1, 1, 1, 5)
    region = ReColorAdv(0.2, RGB(), resolution=[3, 9, 9]).around(batch_of(images))
    assert region.zero().shape == (1, 1, 3)
    changed = region.perturb(torch.tensor([[[0.1, -0.2, 0.0]]], dtype=DOUBLE))
    expected = torch.tensor([0.1, 0.2, 0.3, 0.65, 1.0], dtype=DOUBLE)
    assert changed.flatten().allclose(expected, rtol=0, atol=1e-12)


def test_equal_colours_move_alike_wherever_they_are():
    images = random_images(1, 3, 2, 8, dtype=DOUBLE)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = images.flatten(2)[..., order].reshape(1, 3, 4, 4)
    threat = ReColorAdv(0.06)
    table = tables(threat.around(batch_of(images)), 0.03)
    before, after = threat.around(batch_of(images)).perturb(table), threat.around(batch_of(moved)).perturb(table)
    assert before.flatten(2)[..., order].allclose(after.flatten(2), rtol=0, atol=1e-12)


def test_one_vertex_moves_only_the_colours_of_its_cells():
    images = cube(9)
    region = ReColorAdv(0.2, RGB(), resolution=[5, 5, 5]).around(batch_of(images))
    table = region.zero()
    table[0, 0, 2, 2, 2] = 0.1
    tent = (1 - (images - 0.5).abs() * 4).clamp(min=0).prod(1)
    assert (region.perturb(table) - images)[:, 0].allclose(0.1 * tent, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("space", [LUV(), RGB()])
def test_gradients_are_finite_for_black_white_gray_and_saturated_colours(space, dtype):
    grays = torch.linspace(0, 1, 256)[:, None].expand(-1, 3)
    images = torch.cat((SATURATED, grays)).T.reshape(1, 3, 8, 33).to(dtype)
    region = ReColorAdv(0.06, space).around(batch_of(images))
    for scale in (0, 1e-6, 0.06):
        table = tables(region, scale).clamp(-0.06, 0.06).requires_grad_()
        made = region.perturb(table)
        (gradient,) = torch.autograd.grad(made.square().sum(), table)
        assert made.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.parametrize("space", [LUV(), RGB()])
def test_gradients_reach_the_table_and_the_images_it_is_laid_around(space):
    """A composition recolours what another threat model made."""
    images = (random_images(2, 3, 2, 3, dtype=DOUBLE) * 0.4 + 0.3).requires_grad_()
    threat = ReColorAdv(0.06, space, resolution=[3, 4, 3])
    table = tables(threat.around(batch_of(images.detach())), 0.02).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, t: threat.around(batch_of(x)).perturb(t), (images, table))


@pytest.mark.parametrize("space", [LUV(), RGB()])
@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_black_and_white_pixels_are_free_to_move(space, shade):
    """They lie on the border of [0, 1], where a clamp may have no gradient."""
    region = ReColorAdv(0.06, space).around(batch_of(torch.full((1, 3, 2, 2), shade)))
    table = region.zero().requires_grad_()
    (gradient,) = torch.autograd.grad(region.perturb(table).sum(), table)
    assert gradient.sum().item() > 0
    moved = region.perturb(region.project(table.detach() + (0.5 - shade) * gradient.sign()))
    assert (moved - shade).abs().min() > 0.03


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_pgd_reaches_the_worst_recolouring_of_one_colour(batch):
    """An image of one colour moves as one; two colours of two cells that share no vertex move apart."""
    classifier = LinearClassifier(features=3 * 4 * 6, bias=1e3)
    weight = classifier.weight.data.reshape(3, 4, 6)
    images = torch.full((batch, 3, 4, 6), 0.3)
    images[..., 3:] = 0.7
    labels = torch.zeros(batch, dtype=torch.long)

    attack = PGD(threat_model=ReColorAdv(0.1, RGB(), [11, 11, 11], smoothness=0), steps=20)
    rise = classifier.margin(attack(classifier, images, labels).images, labels) - classifier.margin(images, labels)
    optimum = 2 * 0.1 * sum(half.sum((1, 2)).abs().sum().item() for half in (weight[..., :3], weight[..., 3:]))
    assert rise.tolist() == pytest.approx([optimum] * batch, rel=0.01)


def test_roughness_of_one_moved_vertex():
    """Six neighbours, met from both sides."""
    region = ReColorAdv(0.06, resolution=[4, 5, 6]).around(batch_of(random_images(1, 3, 2, 2, dtype=DOUBLE)))
    table = region.zero()
    table[0, :, 1, 2, 3] = torch.tensor([0.02, 0.04, 0.04])
    assert region.penalty(table).item() == pytest.approx(0.0036 / 0.06 * 12 * 0.06, rel=1e-3)
    assert region.penalty(torch.full_like(table, 0.05)).item() == 0
    assert torch.autograd.gradcheck(region.penalty, tables(region, 0.01).requires_grad_())


def test_it_starts_at_the_image_or_uniformly_within_the_spread():
    images = random_images(50, 3, 4, 4)
    assert not ReColorAdv(0.06, resolution=[3, 4, 5]).around(batch_of(images)).start(Noise(torch.arange(50))).any()
    region = ReColorAdv(0.06, resolution=[3, 4, 5], spread=0.5).around(batch_of(images))
    start = region.start(Noise(torch.arange(50))).flatten().double().numpy()
    assert stats.kstest(start / 0.06 + 0.5, "uniform").pvalue > 1e-3


def test_autocast_changes_nothing():
    images = random_images(2, 3, 8, 8)
    region = ReColorAdv(0.06).around(batch_of(images))
    table = tables(region, 0.03)
    with torch.autocast("cpu", torch.bfloat16):
        assert ReColorAdv(0.06).around(batch_of(images)).perturb(table).equal(region.perturb(table))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"bound": 16}, r"bound 16 is not in \[0, 1\], a colour's range"),
        ({"bound": -0.1}, "the paper's is 0.06"),
        ({"bound": float("nan")}, "is not in"),
        ({"bound": 0.06, "resolution": [16, 1, 32]}, r"resolution \[16, 1, 32\]: expected ≥ 2"),
        ({"bound": 0.06, "resolution": []}, "expected ≥ 2"),
        ({"bound": 0.06, "smoothness": -1}, "smoothness -1 is not a weight"),
        ({"bound": 0.06, "spread": -0.5}, "spread -0.5 is not a share"),
    ],
)
def test_nonsense_is_refused_in_one_line(wrong, says):
    with pytest.raises(ValueError, match=says):
        ReColorAdv(**wrong)


def test_images_without_such_colours_are_refused_in_one_line():
    with pytest.raises(ValueError, match="use the colour space RGB"):
        ReColorAdv(0.06).around(batch_of(random_images(2, 1, 4, 4)))
    with pytest.raises(ValueError, match="images have 3 channels, the table of ReColorAdv 2"):
        ReColorAdv(0.06, RGB(), resolution=[4, 4]).around(batch_of(random_images(2, 3, 4, 4)))


def test_the_two_spaces_have_two_names():
    """A model trained on one has not seen the other."""
    assert ReColorAdv(0.06).name == "recoloradv_luv"
    assert ReColorAdv(0.06, RGB()).name == "recoloradv_rgb"
