"""Distances without a network: closed forms, scikit-image, and a line where a ball is asked of what has none."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from gauntlet import threats
from gauntlet.attacks import PGD
from gauntlet.distances import L2, SSIM, Linf
from gauntlet.identity import describe
from gauntlet.threats import NeuralPerceptual
from tests.fixtures import batch_of, photographs, predictions, random_images, tapped

ALL = [L2(), Linf(), SSIM()]


def noisy(images, strength, seed=9):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + strength * noise.to(images)).clamp(0, 1)


def test_l2_and_linf_are_norms_of_the_change():
    images, others = random_images(4, 3, 5, 7), random_images(4, 3, 5, 7, seed=1)
    change = (images - others).flatten(1)
    assert L2()(images, others).allclose(change.square().sum(1).sqrt())
    assert Linf()(images, others).equal(change.abs().max(1).values)


def test_ssim_of_single_pixels_in_closed_form():
    """Of the window only the middle sees the image, with a weight w: means w·a and w·b, moments w·a² and so on."""
    a, b = 0.3, 0.8
    offsets = torch.arange(-5.0, 6, dtype=torch.float64)
    window = (-(offsets**2) / (2 * 1.5**2)).exp()
    w = (window[5] / window.sum()) ** 2
    luminance = (2 * w * w * a * b + 1e-4) / (w * w * (a * a + b * b) + 1e-4)
    structure = (2 * (w - w * w) * a * b + 9e-4) / ((w - w * w) * (a * a + b * b) + 9e-4)
    images = torch.full((1, 1, 1, 1), a, dtype=torch.float64)
    assert SSIM()(images, images * b / a).allclose(1 - luminance * structure, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (3, 1, 20, 37), (2, 3, 3, 5)])
def test_ssim_is_that_of_scikit_image_with_black_around_the_images(shape, dtype):
    images = random_images(*shape, dtype=torch.float64)
    others = noisy(images, 0.2)
    actual = SSIM()(images.to(dtype), others.to(dtype))
    assert actual.dtype == dtype
    assert actual.double().allclose(scikit_images(images, others), rtol=1e-9 if dtype == torch.float64 else 1e-5)


def test_ssim_on_photographs_is_scikit_images_and_grows_with_the_noise():
    images = photographs(3, 96)
    measured = [SSIM()(images, noisy(images, strength)) for strength in (0.0, 0.02, 0.1, 0.3)]
    assert all((less < more).all() for less, more in pairwise(measured))
    assert measured[2].double().allclose(scikit_images(images, noisy(images, 0.1)), rtol=1e-4)


def scikit_images(images, others):
    """1 − SSIM, `[N]`, with five black pixels around the images."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    dissimilarities = []
    for pair in zip(images.double(), others.double(), strict=True):
        framed = [np.pad(image.numpy(), ((0, 0), (5, 5), (5, 5))) for image in pair]
        _, local = structural_similarity(*framed, channel_axis=0, full=True, **options)
        dissimilarities.append(1 - local[:, 5:-5, 5:-5].mean())
    return torch.tensor(dissimilarities, dtype=torch.float64)


@pytest.mark.parametrize("distance", ALL, ids=lambda distance: distance.name)
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 1, 3, 5), (5, 3, 9, 4)])
def test_one_number_an_image_whatever_the_rest_of_the_batch(distance, shape):
    images, others = random_images(*shape, dtype=torch.float64), random_images(*shape, seed=1, dtype=torch.float64)
    d = distance(images, others)
    assert d.shape == shape[:1]
    assert (d > 0).all()
    assert d.allclose(distance(others, images), rtol=1e-12)
    assert distance(images, images).allclose(torch.zeros(shape[0], dtype=torch.float64), atol=1e-12)
    assert distance(images.flip(0), others.flip(0)).flip(0).allclose(d, rtol=1e-12)
    last = [batch.contiguous(memory_format=torch.channels_last) for batch in (images, others)]
    assert distance(*last).allclose(d, rtol=1e-12)
    if len(d):
        assert distance(images[:1], others[:1]).allclose(d[:1], rtol=1e-12)


@pytest.mark.parametrize("distance", [Linf(), SSIM()], ids=lambda distance: distance.name)
def test_what_has_no_phi_makes_no_ball(distance):
    threat = NeuralPerceptual(distance, 0.5)
    with pytest.raises(TypeError, match=f"the distance {distance.name} has no embedding φ") as caught:
        threat.around(batch_of(random_images(1, 3, 4, 4)), tapped())
    assert "\n" not in str(caught.value)


def test_the_perceptual_ball_of_l2_is_the_l2_ball():
    classifier, images = tapped(classes=5, dtype=torch.float64), random_images(6, 3, 8, 8, dtype=torch.float64)
    ball, plain = NeuralPerceptual(L2(), 0.4), threats.L2(0.4)
    change = noisy(images, 0.1) - images
    one, other = ball.around(batch_of(images), classifier), plain.around(batch_of(images))
    assert one.size(change).allclose(other.size(change), rtol=1e-9)
    assert (one.size(one.project(change)) <= 1 + 1e-9).all()
    result = PGD(threat_model=ball, steps=10)(classifier, images, predictions(classifier, images))
    assert (L2()(result.images, images) <= 0.4 + 1e-6).all()
    assert predictions(classifier, result.images).ne(predictions(classifier, images)).any()


def test_they_have_an_identity():
    assert len({str(describe(distance)) for distance in ALL}) == 3
