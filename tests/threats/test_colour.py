"""CIE LUV against its definition, its landmarks and scikit-image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import color

from gauntlet.threats import LUV, RGB
from tests.fixtures import random_images
from tests.threats.oracles import luv_of, rgb_of

DOUBLE = torch.float64
UNIT = torch.tensor([100.0, 200.0, 200.0], dtype=DOUBLE)
ZERO = torch.tensor([0.0, 100.0, 100.0], dtype=DOUBLE)


def cube(steps, dtype=DOUBLE):
    """`[1, 3, steps², steps]`, colours from corner to corner of RGB."""
    axis = torch.linspace(0, 1, steps, dtype=DOUBLE)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    return grid.reshape(1, 3, steps * steps, steps).to(dtype)


def single(*channels, dtype=DOUBLE):
    return torch.tensor(channels, dtype=dtype).reshape(1, 3, 1, 1)


def plain(colours):
    """L in 0 … 100, u, v: without the normalisation."""
    return colours * UNIT.reshape(3, 1, 1) - ZERO.reshape(3, 1, 1)


@pytest.mark.parametrize(
    ("rgb", "luv"),
    [
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 175.01, 37.76)),
        ((0.0, 1.0, 0.0), (87.73, -83.08, 107.39)),
        ((0.0, 0.0, 1.0), (32.30, -9.41, -130.34)),
        ((1.0, 1.0, 0.0), (97.14, 7.71, 106.78)),
        ((1.0, 0.0, 1.0), (60.32, 84.06, -108.69)),
    ],
)
def test_the_landmarks_lie_where_they_should(rgb, luv):
    result = plain(LUV().of(single(*rgb))).flatten()
    assert result.allclose(torch.tensor(luv, dtype=DOUBLE), rtol=0, atol=0.1)


def test_grays_have_no_colour():
    gray = torch.linspace(0, 1, 101, dtype=DOUBLE).expand(1, 3, 1, 101)
    colours = plain(LUV().of(gray))
    assert colours[:, 1:].abs().max() < 1e-10
    assert (colours[0, 0].diff() > 0).all()
    assert plain(LUV().of(gray.float()).double())[:, 1:].abs().max() < 1e-3


def test_it_agrees_with_scikit_image():
    """Up to the fourth digit of the primaries, which are rounded otherwise there."""
    images = cube(17)
    expected = np.moveaxis(color.rgb2luv(np.moveaxis(images.numpy(), 1, -1)), -1, 1)
    assert plain(LUV().of(images)).allclose(torch.from_numpy(expected), rtol=0, atol=0.1)
    back = np.moveaxis(color.luv2rgb(np.moveaxis(expected, 1, -1)), -1, 1)
    normal = (torch.from_numpy(expected) + ZERO.reshape(3, 1, 1)) / UNIT.reshape(3, 1, 1)
    assert LUV().images(normal).clamp(0, 1).allclose(torch.from_numpy(back), rtol=0, atol=2e-3)


def test_it_agrees_with_its_definition():
    images = cube(13)
    assert plain(LUV().of(images)).allclose(torch.from_numpy(luv_of(images.numpy())), rtol=0, atol=1e-9)
    bright = cube(13) * 0.9 + 0.1
    assert torch.from_numpy(rgb_of(luv_of(bright.numpy()))).allclose(bright, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 3e-5)])
def test_every_colour_comes_back(dtype, tolerance):
    images = cube(33, dtype)
    assert LUV().images(LUV().of(images)).allclose(images, rtol=0, atol=tolerance)


@settings(deadline=None)
@given(st.tuples(*[st.floats(0, 1, width=32)] * 3))
def test_any_colour_comes_back(rgb):
    """Down to the blackest."""
    assert LUV().images(LUV().of(single(*rgb))).allclose(single(*rgb), rtol=0, atol=2e-7)


def test_the_range_holds_the_gamut_and_not_much_more():
    low, high = (torch.tensor(end, dtype=DOUBLE) for end in LUV().range(3))
    colours = LUV().of(cube(65))[0].flatten(1)
    assert (colours.amin(1) >= low).all()
    assert (colours.amax(1) <= high).all()
    assert (colours.amin(1) - low < 0.01).all()
    assert (high - colours.amax(1) < 0.01).all()
    assert torch.tensor(RGB().range(2)).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_values_and_gradients_are_finite_on_and_off_the_gamut(dtype):
    """Black, no light but a colour, negative light, imaginary colours."""
    axes = torch.linspace(-0.1, 1.1, 13), torch.linspace(-0.2, 1.7, 12), torch.linspace(-0.5, 1.4, 12)
    colours = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(1, 3, 13, 144).to(dtype)
    dark = torch.stack(torch.meshgrid(torch.tensor([0, 1e-9, 1e-6, 1e-4]), *axes[1:], indexing="ij"))
    for off in (colours, dark.reshape(1, 3, 4, 144).to(dtype), LUV().of(cube(9, dtype))):
        off = off.detach().requires_grad_()
        images = LUV().images(off)
        (gradient,) = torch.autograd.grad(images.sum(), off)
        assert images.isfinite().all()
        assert gradient.isfinite().all()
        assert images.abs().max() < 20  # XYZ has a pole out there
    images = cube(9, dtype).requires_grad_()
    assert torch.autograd.grad(LUV().of(images).sum(), images)[0].isfinite().all()


def test_black_can_become_gray():
    """The gradient at black sees more light."""
    black = LUV().of(single(0, 0, 0, dtype=torch.float32)).requires_grad_()
    (gradient,) = torch.autograd.grad(LUV().images(black).sum(), black)
    assert gradient[0, 0].item() > 0


def test_gradients_are_right():
    images = (random_images(2, 3, 3, 3, dtype=DOUBLE) * 0.8 + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(LUV().of, images)
    assert torch.autograd.gradcheck(LUV().images, LUV().of(images.detach()).requires_grad_())


def test_gray_images_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"1 channel\(s\) have no CIE LUV colours: use the colour space RGB"):
        LUV().check(1)
