"""Snow of ImageNet-UA beside loops over layers, lines pixel by pixel and scipy's correlation."""

import math

import numpy as np
import pytest
import torch
from scipy import signal

from gauntlet.noise import Noise
from gauntlet.threats import UASnow
from gauntlet.threats.imagenet_ua.snow import kernels
from tests.fixtures import batch_of, photographs, random_images
from tests.networks import cifar10
from tests.threats.imagenet_ua.checks import DOUBLE, check, wild

CIFAR, IMAGENET = UASnow(4.0, 3, 10, 1), UASnow(15.0, 15, 15, 3)


def line(side, down, right, thickness):
    """The line of one layer before it is mirrored sideways and blurred, pixel by pixel."""
    middle, kernel = side // 2, np.zeros((side, side))
    weight = thickness * math.sqrt(1 + min(down, right) / max(down, right)) / 2
    for r in range(side):
        for c in range(side):
            along, across = (r - middle, c - middle) if down > right else (c - middle, r - middle)
            if 0 <= along <= max(down, right):
                beside = across - along * min(down, right) / max(down, right)
                kernel[r, c] = np.clip(min(beside + 1 + weight / 2, -beside + 1 + weight / 2), 0, 1)
    kernel[: middle + 1, : middle + 1] = kernel[middle:, middle:][::-1, ::-1].copy()
    return kernel


def reference_kernels(threat, drawn):
    """The kernels of one image, `[layers, side, side]`."""
    noise, middle = drawn.stream(0), threat.flake // 2
    ends = (
        noise.uniform((1, threat.layers, 2, 1, 1)).flatten().reshape(-1, 2) * (threat.flake - 1 - middle)
    ).long() + 1
    choices = noise.uniform((1, threat.layers, 1, 1), draw=1).flatten().tolist()
    std = float(noise.uniform((1, 1, 1, 1), 10, 15, draw=3))
    offset = np.arange(threat.blur) - threat.blur // 2
    window = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * std**2))
    made = []
    for (down, right), choice in zip(ends.tolist(), choices, strict=True):
        kernel = line(threat.flake, down, right, 1 if choice < 0.6 else 3 if choice < 0.9 else 5)
        if float(noise.uniform((1, 1, 1, 1), draw=2)) < 0.5:
            kernel = kernel[:, ::-1]
        made.append(signal.correlate2d(kernel, window / window.sum(), mode="same"))
    return np.stack(made)


@pytest.mark.parametrize("threat", [CIFAR, IMAGENET])
def test_a_photograph_has_the_snow_of_the_formula(threat):
    images = (photographs(1, 224) if threat is IMAGENET else cifar10(1)[0]).to(DOUBLE)
    region = threat.around(batch_of(images))
    params = region.project(wild(region, seed=7))
    drawn, x = Noise(params[:, 0].long()), images[0].numpy()
    flakes = params[0, 1:].reshape(threat.layers, *x.shape[1:]).numpy()
    masked = flakes * (drawn.stream(1).uniform((1, flakes.size)) < 1 / threat.grid**2).reshape(flakes.shape).numpy()
    snow = sum(
        signal.correlate2d(layer**4, kernel, mode="same")
        for layer, kernel in zip(masked, reference_kernels(threat, drawn), strict=True)
    )
    luma = np.einsum("c,chw->hw", [0.2126, 0.7152, 0.0722], x)
    expected = (0.85 * x + 0.15 * np.maximum(x, 1.5 * luma + 0.5) + snow).clip(0, 1)
    np.testing.assert_allclose(region.perturb(params)[0].numpy(), expected, atol=1e-6)
    assert (snow > 0.05).mean() > 0.005


def whitened(images):
    luma = images if images.shape[1] == 1 else torch.tensordot(images, images.new_tensor(LUMA), ([1], [0]))[:, None]
    return (0.85 * images + 0.15 * torch.maximum(images, 1.5 * luma + 0.5)).clamp(max=1)


LUMA = (0.2126, 0.7152, 0.0722)


def test_it_keeps_its_promises():
    check(UASnow(4.0, 3, 2, 1, layers=2), zero_image=whitened)


def test_kernels_of_three_pixels_are_one_of_two_diagonals_without_a_blur():
    for kernel in kernels(Noise(torch.arange(20)), 1, 3, 1)[:, 0]:
        assert max(kernel.trace(), kernel.flip(1).trace()) == 3


def test_flakes_are_one_pixel_in_grid_squared_and_the_others_do_not_move():
    region = CIFAR.around(batch_of(random_images(20, 3, 32, 32)))
    start = region.start(Noise(torch.arange(20)))
    assert 0.008 < (start[:, 1:] != 0).double().mean() < 0.012
    params = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(region.perturb(params).sum(), params)
    assert not gradient[start == 0].any()


def test_the_start_is_scaled_into_the_ball_before_it_is_masked():
    """So it is about a tenth as long as the bound where one pixel in a hundred has a flake."""
    region = CIFAR.around(batch_of(random_images(20, 3, 32, 32)))
    assert (region.size(region.start(Noise(torch.arange(20)))) - 0.1).abs().max() < 0.04


@pytest.mark.parametrize(("flake", "blur"), [(4, 1), (1, 1), (3, 2)])
def test_even_windows_are_refused(flake, blur):
    with pytest.raises(ValueError, match="expected odd numbers"):
        UASnow(4.0, flake, 10, blur)
