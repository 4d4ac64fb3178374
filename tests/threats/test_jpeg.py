"""Adversarial JPEG beside an independent transform, and beside real JPEG files."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import fft

from gauntlet.attacks import PGD
from gauntlet.threats import AdversarialJPEG
from gauntlet.threats.jpeg import CHROMA_STEPS, LUMA_STEPS, encode
from tests.fixtures import LinearClassifier, batch_of, photographs, random_images, subsampled, tapped
from tests.networks import cifar10

DOUBLE = torch.float64
SHAPES = [(3, 32, 32), (3, 33, 31), (3, 1, 1), (3, 17, 50), (1, 28, 28), (1, 9, 5), (3, 2, 40)]


def transformed(plane, steps):
    """scipy's orthonormal DCT of every 8×8 block of one plane of levels, in steps, `[blocks, 8, 8]`."""
    height, width = plane.shape
    cut = [plane[i : i + 8, j : j + 8] for i in range(0, height, 8) for j in range(0, width, 8)]
    return np.stack([fft.dctn(block, norm="ortho") for block in cut]) / np.reshape(steps, (8, 8))


def reference_coefficients(image):
    """Those of one `[C, H, W]` image by the definition of the file format, in float64 numpy and scipy."""
    levels = 255 * image.double().numpy()
    unit = 8 if len(levels) == 1 else 16
    levels = np.pad(levels, ((0, 0), (0, -levels.shape[1] % unit), (0, -levels.shape[2] % unit)), mode="edge")
    if len(levels) == 1:
        return transformed(levels[0] - 128, LUMA_STEPS).reshape(-1, 64)
    y = 0.299 * levels[0] + 0.587 * levels[1] + 0.114 * levels[2]
    planes = [transformed(y - 128, LUMA_STEPS)]
    for difference in ((levels[2] - y) / 1.772, (levels[0] - y) / 1.402):
        pooled = difference.reshape(len(y) // 2, 2, y.shape[1] // 2, 2).mean((1, 3))
        planes.append(transformed(pooled, CHROMA_STEPS))
    return np.concatenate(planes).reshape(-1, 64)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_coefficients_are_those_of_an_independent_transform(shape):
    images = random_images(2, *shape, dtype=DOUBLE)
    expected = np.stack([reference_coefficients(image) for image in images])
    np.testing.assert_allclose(encode(images).numpy(), expected, atol=2e-4)  # the format's constants have six digits


def test_the_tables_are_those_that_pillow_writes_at_quality_50():
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG", quality=50)
    tables = Image.open(buffer).quantization
    assert [tuple(tables[0]), tuple(tables[1])] == [LUMA_STEPS, CHROMA_STEPS]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_zero_image_has_the_brightness_of_x_and_the_mean_colour_of_every_2_by_2(shape):
    images = random_images(2, *shape, dtype=DOUBLE)
    region = AdversarialJPEG(0.25).around(batch_of(images))
    zero = region.perturb(region.zero())
    assert zero.allclose(subsampled(images), rtol=0, atol=2e-5)
    if shape[0] == 1:
        assert zero.allclose(images, rtol=0, atol=1e-12)


def test_an_image_without_detail_in_colour_is_its_own_zero_image():
    images = random_images(2, 3, 8, 6, dtype=DOUBLE).repeat_interleave(2, 2).repeat_interleave(2, 3)
    region = AdversarialJPEG(0.25).around(batch_of(images))
    assert region.perturb(region.zero()).allclose(images, rtol=0, atol=2e-6)


@settings(deadline=None, max_examples=25)
@given(
    channels=st.sampled_from([1, 3]), height=st.integers(1, 3), width=st.integers(1, 3), seed=st.integers(0, 10**6),
    bound=st.sampled_from([1e-3, 0.25, 2.0]),
)  # fmt: skip
def test_no_coefficient_moves_by_more_than_half_the_bound_in_steps(channels, height, width, seed, bound):
    """Read back from the image by the independent transform, where nothing was clamped and no block was padded."""
    images = 0.5 + 0.02 * random_images(1, channels, 16 * height, 16 * width, seed=seed, dtype=DOUBLE)
    region = AdversarialJPEG(bound).around(batch_of(images))
    wild = torch.randn(region.zero().shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    small = region.project(wild * bound) * torch.tensor(min(1.0, 0.02 / bound))
    changed = region.perturb(small)
    assert 0 < changed.min() < changed.max() < 1
    moved = reference_coefficients(changed[0]) - reference_coefficients(images[0])
    np.testing.assert_allclose(moved, small[0].numpy() / 2, atol=3e-4)
    assert region.size(region.project(wild * 100)).allclose(torch.ones(1, dtype=DOUBLE))


def filed(levels, mode, quality):
    """`[C, H, W]` levels written to a JPEG file with 4:2:0, and read back in one of its modes, `[H, W, …]`."""
    pixels = levels.to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    picture = Image.open(io.BytesIO(buffer.getvalue()))
    picture.draft(mode, picture.size)
    return torch.from_numpy(np.asarray(picture).copy()).double()


def photograph(height, width):
    """Levels of a real photograph, away from black and white so that nothing is clamped."""
    return (photographs(1, 64)[0, :, :height, :width] * 100 + 80).round().double()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 31), (64, 48)])
def test_files_of_steps_of_1_hold_the_zero_image(height, width):
    """To rounding. Of colour the brightness; libjpeg smooths colour when it reads."""
    levels = photograph(height, width)
    for image, mode in ((levels[:1], "L"), (levels, "YCbCr")):
        region = AdversarialJPEG(0.25).around(batch_of(image[None] / 255))
        ours = 255 * region.perturb(region.zero())[0]
        file = filed(image, mode, quality=100)
        if mode == "YCbCr":
            ours, file = 0.299 * ours[0] + 0.587 * ours[1] + 0.114 * ours[2], file[..., 0]
        assert (ours.squeeze(0) - file).abs().max() < 1.6
        assert (ours.squeeze(0) - file).abs().mean() < 0.35


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 31), (64, 48)])
def test_files_of_annex_k_hold_our_coefficients_rounded(height, width):
    """Each the nearest whole number, to what a pixel of 8 bits tells of it."""
    levels = photograph(height, width)[:1, : height // 8 * 8, : width // 8 * 8]
    ours, stored = (encode(image[None, None] / 255) for image in (levels[0], filed(levels, "L", quality=50)))
    assert (stored - stored.round()).abs().max() < 0.2
    assert (stored - ours).abs().max() < 0.7
    assert (stored.round() == ours.round()).double().mean() > 0.98


def test_a_uniform_colour_is_filed_as_pillow_files_it():
    """Colour planes without detail are not smoothed on reading, so they compare too."""
    brightness = (photographs(1, 32)[0, :1] * 100).round()
    levels = torch.cat((brightness + 60, brightness + 20, brightness + 90)).double()
    region = AdversarialJPEG(0.25).around(batch_of(levels[None] / 255))
    ours = 255 * region.perturb(region.zero())[0]
    assert (ours.permute(1, 2, 0) - filed(levels, "RGB", quality=100)).abs().max() < 1.5


@pytest.mark.parametrize("shape", [(3, 20, 18), (1, 11, 8)])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_pgd_reaches_the_worst_case_of_a_linear_classifier(shape, batch):
    """Away from black and white the image is linear in v, so every coefficient goes to its bound."""
    classifier = LinearClassifier(math.prod(shape), bias=1e5, dtype=DOUBLE)
    images = 0.5 + 0.01 * random_images(batch, *shape, dtype=DOUBLE)
    labels = torch.zeros(batch, dtype=torch.long)
    threat = AdversarialJPEG(0.05)
    region = threat.around(batch_of(images))
    zero = region.zero().requires_grad_()
    score = region.perturb(zero).flatten(1) @ classifier.weight.detach()
    (weight,) = torch.autograd.grad(score.sum(), zero)
    best = 2 * (0.05 * weight.abs().flatten(1).sum(1) - score.detach())
    attacked = PGD(threat_model=threat, steps=40)(classifier, images, labels).images
    reached = -2 * attacked.flatten(1) @ classifier.weight.detach()
    assert reached.allclose(best, rtol=1e-9)


def test_clamped_pixels_have_no_gradient_and_the_others_theirs():
    """A white image with a gray block: whatever pushes white further moves nothing."""
    images = torch.ones(1, 1, 8, 16, dtype=DOUBLE)
    images[..., 8:] = 0.5
    region = AdversarialJPEG(1.0).around(batch_of(images))
    params = torch.full_like(region.zero(), 0.0)
    params[:, :, 0] = 0.5  # brighter
    params.requires_grad_()
    (gradient,) = torch.autograd.grad(region.perturb(params).sum(), params)
    assert gradient[0, 0].abs().max() == 0
    assert gradient[0, 1, 0] == pytest.approx(16 / 2 / 255 * 8)  # a step of 16 levels, an eighth of it in 64 pixels


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_black_and_white_keep_their_gradient(level, channels):
    """The background of a digit: at the end of [0, 1], and free to leave it."""
    region = AdversarialJPEG(1.0).around(batch_of(torch.full((1, channels, 32, 32), level)))
    params = region.zero().requires_grad_()
    shown = region.perturb(params)
    (gradient,) = torch.autograd.grad(shown.sum(), params)
    assert ((shown >= 0) & (shown <= 1)).all()
    assert (gradient[0, :16, 0] > 0.99 * channels * 16 / 2 / 255 * 8).all()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_autocast_does_not_blur_the_images(dtype):
    images = random_images(3, 3, 20, 20, dtype=dtype)
    plain = AdversarialJPEG(0.5).around(batch_of(images))
    params = torch.randn(plain.zero().shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        region = AdversarialJPEG(0.5).around(batch_of(images))
        assert region.perturb(params).equal(plain.perturb(params))


def test_an_image_has_the_same_bits_in_every_batch():
    images = random_images(40, 3, 32, 32)
    region = AdversarialJPEG(0.5).around(batch_of(images))
    params = torch.randn(region.zero().shape, generator=torch.Generator().manual_seed(0))
    whole = region.perturb(params)
    for few in (1, 3, 17):
        assert AdversarialJPEG(0.5).around(batch_of(images[:few])).perturb(params[:few]).equal(whole[:few])


def test_success_rises_with_the_bound_on_real_images():
    images, _ = cifar10(40)
    classifier = tapped(classes=10)
    with torch.no_grad():
        labels = classifier(images).argmax(1)
    rates = []
    for bound in (0.0, 0.05, 0.5, 4.0):
        result = PGD(threat_model=AdversarialJPEG(bound), steps=10)(classifier, images, labels, seeds=torch.arange(40))
        with torch.no_grad():
            rates.append((classifier(result.images).argmax(1) != labels).sum().item())
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


@pytest.mark.parametrize("bound", [-0.1, float("nan"), float("inf")])
def test_a_bound_that_is_no_number_is_refused(bound):
    with pytest.raises(ValueError, match="write twice the quantisation steps"):
        AdversarialJPEG(bound)


@pytest.mark.parametrize("channels", [2, 4])
def test_images_that_are_no_jpeg_are_refused(channels):
    with pytest.raises(ValueError, match=f"images of {channels} channels cannot be JPEG-encoded"):
        AdversarialJPEG(0.25).around(batch_of(torch.zeros(1, channels, 16, 16)))
