"""Every augmentation agrees with torchvision's on real images, and is a function of (seed, epoch, example id)."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import kstest
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import ColorJitter
from torchvision.transforms.v2 import RandomResizedCrop as TorchvisionCrop
from torchvision.transforms.v2 import functional as tv

from gauntlet.data import (
    CentreCrop,
    ColourJitter,
    Digits,
    Examples,
    PCALighting,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
    Step,
    TrainingExamples,
)
from gauntlet.data.augmentation import jittered, lit, luminance, pixels_at, rotated
from gauntlet.noise import Noise
from tests.fixtures import photographs, random_images

ALL = (RandomCrop(4), RandomFlip(), ColourJitter(0.25, 0.25, 0.25), RandomRotation(2), PCALighting(0.05))
GREY = ALL[:4]


def seeds(count, first=0):
    return Noise(torch.arange(first, first + count))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_colour_jitter_is_torchvisions_three_adjustments(order):
    photos = photographs(4, 96)
    factors = torch.tensor([[0.75, 1.25, 1.1], [1.25, 0.8, 0.75], [1.0, 1.0, 1.0], [0.9, 1.2, 1.25]])
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    expected = []
    for photo, factor in zip(photos, factors, strict=True):
        for which in order:
            photo = adjust[which](photo[None], float(factor[which]))[0]
        expected.append(photo)
    actual = jittered(photos, factors, torch.tensor([order] * 4))
    assert torch.allclose(actual, torch.stack(expected), atol=2e-6)
    assert actual[2].allclose(photos[2], atol=1e-6)


def test_colour_jitter_draws_what_torchvision_draws():
    """Factors are uniform on [1 − j, 1 + j]; with j above 1 they stop at 0, as torchvision's do."""
    white = torch.full((4000, 3, 1, 1), 0.5)
    brighter = ColourJitter(0.25, 0, 0)(white, seeds(4000))[:, 0, 0, 0] / 0.5
    assert kstest(brighter.numpy(), "uniform", args=(0.75, 0.5)).pvalue > 0.01
    assert ColorJitter(0.25).brightness == (0.75, 1.25)
    assert ColourJitter(2, 0, 0)(white, seeds(4000)).amin() == 0


def test_luminance_is_torchvisions():
    photos = photographs(2, 64)
    assert torch.allclose(luminance(photos), tv.rgb_to_grayscale(photos), atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (31, 32), (24, 41)])
@pytest.mark.parametrize("angle", [-2.0, -0.7, 0.0, 1.3, 2.0, 30.0, 57.0])
def test_rotation_is_torchvisions_nearest(size, angle):
    """Up to ties: a source between two pixels may be rounded to either."""
    photo = photographs(1, 64)[:, :, : size[0], : size[1]] + 0.01
    expected = tv.rotate(photo, angle, InterpolationMode.NEAREST)
    different = (rotated(photo, torch.tensor([angle])) != expected).any(1).float().mean()
    assert different <= 0.01


def test_a_quarter_turn_is_exact():
    photo = photographs(1, 33)
    assert rotated(photo, torch.tensor([90.0])).equal(photo.rot90(1, (2, 3)))
    assert rotated(photo, torch.tensor([0.0])).equal(photo)


@pytest.mark.parametrize("size", [(32, 32), (20, 33)])
def test_crops_are_torchvisions_pad_and_crop(size):
    photo = photographs(1, 64)[:, :, : size[0], : size[1]]
    padded = tv.pad(photo, [3])
    windows = {(top, left): tv.crop(padded, top, left, *size) for top, left in itertools.product(range(7), repeat=2)}
    actual = RandomCrop(3)(photo.expand(600, -1, -1, -1), seeds(600))
    seen = {folder for image in actual for folder, window in windows.items() if window[0].equal(image)}
    assert seen == set(windows)


def test_flips_mirror_half_of_the_images():
    photo = photographs(1, 16)
    actual = RandomFlip()(photo.expand(1000, -1, -1, -1), seeds(1000))
    flipped = torch.tensor([image.equal(tv.horizontal_flip(photo)[0]) for image in actual])
    assert 440 < flipped.sum() < 560
    assert all(image.equal(photo[0]) for image in actual[~flipped])
    assert RandomFlip(1.0)(photo, seeds(1)).equal(photo.flip(-1))


def test_lighting_shifts_along_the_components_and_stays_in_the_box():
    grey = torch.full((3, 3, 4, 5), 0.5)
    actual = lit(grey, torch.eye(3)) - 0.5
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    assert np.allclose(vectors @ vectors.T, np.eye(3), atol=2e-3)
    for component, value in enumerate((0.2175, 0.0188, 0.0045)):
        assert np.allclose(actual[component, :, 2, 3].numpy(), value * vectors[:, component], atol=1e-6)
    shift = PCALighting(0.05)(grey[:1].expand(3000, -1, -1, -1), seeds(3000))[:, :, 0, 0] - 0.5
    along = shift.double().numpy() @ vectors[:, 0] / 0.2175
    assert kstest(along, "norm", args=(0, 0.05)).pvalue > 0.01
    extreme = PCALighting(5.0)(random_images(50, 3, 4, 4), seeds(50))
    assert extreme.amin() == 0
    assert extreme.amax() == 1


def test_pixels_outside_of_the_image_are_black():
    image = random_images(1, 3, 4, 5) + 0.1
    rows, columns = torch.tensor([[[-1, 0], [3, 4]]]), torch.tensor([[[0, -1], [4, 4]]])
    actual = pixels_at(image, rows, columns)
    assert actual[0, :, 1, 0].equal(image[0, :, 3, 4])
    assert actual.count_nonzero() == 3


@settings(deadline=None, max_examples=40)
@given(
    operation=st.sampled_from(ALL),
    count=st.integers(0, 5),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    channels_last=st.booleans(),
    first=st.integers(0, 1 << 40),
)
def test_images_stay_images_and_no_result_depends_on_batch_mates(operation, count, size, channels_last, first):
    images = random_images(count, 3, *size, seed=first % 97)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    actual = operation(images, seeds(count, first))
    assert actual.shape == images.shape
    assert actual.dtype == torch.float32
    assert images.equal(before)
    assert not count or (actual.amin() >= 0 and actual.amax() <= 1)
    for row in range(count):
        alone = operation(before[row : row + 1].contiguous(), seeds(1, first + row))
        assert alone[0].equal(actual[row])


@pytest.mark.parametrize("operation", GREY)
def test_grey_images_are_augmented_too(operation):
    actual = operation(random_images(3, 1, 9, 8), seeds(3))
    assert actual.shape == (3, 1, 9, 8)


def test_grey_jitter_is_that_of_three_equal_channels():
    grey = random_images(4, 1, 8, 8)
    three = ColourJitter(0.25, 0.25, 0.25)(grey.expand(-1, 3, -1, -1), seeds(4))
    assert torch.allclose(ColourJitter(0.25, 0.25, 0.25)(grey, seeds(4)), three[:, :1], atol=2e-4)


def test_channels_without_colours_are_refused():
    with pytest.raises(ValueError, match="2 channels"):
        ColourJitter(0.1, 0.1, 0.1)(random_images(1, 2, 4, 4), seeds(1))
    with pytest.raises(ValueError, match="1 channels"):
        PCALighting()(random_images(1, 1, 4, 4), seeds(1))
    with pytest.raises(ValueError, match="at least 0"):
        ColourJitter(-0.1, 0.1, 0.1)


@pytest.fixture(scope="module")
def coloured():
    images = (random_images(60, 3, 8, 9) * 255).byte()
    return Examples(images, torch.arange(60) % 7, torch.randperm(1000)[:60])


def test_a_training_batch_is_a_function_of_seed_epoch_and_id(coloured):
    """Independent of batch, position and order, as resuming, ranks and workers need."""
    training = TrainingExamples(coloured, ALL, seed=3)
    whole = training.__getitems__(Step(4, list(range(60))))
    parts = [training.__getitems__(Step(4, rows)) for rows in ([7], [59, 7, 0], list(range(20, 40)))]
    for rows, part in zip(([7], [59, 7, 0], list(range(20, 40))), parts, strict=True):
        assert part.images.equal(whole.images[rows])
        assert part.ids.equal(coloured.ids[rows])
        assert part.labels.equal(coloured.labels[rows])
    order = torch.randperm(60)
    elsewhere = Examples(coloured.images[order], coloured.labels[order], coloured.ids[order])
    assert TrainingExamples(elsewhere, ALL, 3).__getitems__(Step(4, list(range(60)))).images.equal(whole.images[order])


def test_every_epoch_and_seed_has_its_own_augmentation(coloured):
    step = Step(0, list(range(60)))
    first = TrainingExamples(coloured, ALL, 0).__getitems__(step).images
    again = TrainingExamples(coloured, ALL, 0).__getitems__(step._replace(epoch=1)).images
    other = TrainingExamples(coloured, ALL, 1).__getitems__(step).images
    assert not first.equal(again)
    assert not first.equal(other)
    assert TrainingExamples(coloured, (), 0).__getitems__(step).images.equal(coloured[torch.arange(60)].images)


def test_two_steps_of_one_kind_have_their_own_draws(coloured):
    twice = TrainingExamples(coloured, (RandomFlip(), RandomFlip()), 0).__getitems__(Step(0, list(range(60)))).images
    assert not twice.equal(coloured[torch.arange(60)].images)


def test_only_training_is_augmented(monkeypatch):
    data = Digits(augmentation=[RandomFlip(1.0)])
    monkeypatch.setattr(type(data), "_device", lambda self: torch.device("cpu"))
    (first, *_) = data.val_dataloader()
    assert first.images.equal(data.splits.validation[slice(0, 64)].images)


def test_the_centre_crop_of_a_ramp_is_its_middle():
    """Bilinear resizing keeps a ramp in x a ramp."""
    ramp = np.broadcast_to(np.linspace(0, 255, 400).astype(np.uint8), (300, 400))
    actual = np.asarray(CentreCrop(size=150, resize=150)(Image.fromarray(ramp.copy()), seeds(1))).astype(float)
    assert actual.shape == (150, 150)
    assert np.allclose(actual[75], np.linspace(0, 255, 400).reshape(200, 2).mean(1)[25:175], atol=1.5)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (50, 500), (500, 20), (1, 1), (8, 7)])
def test_resized_crops_lie_in_the_picture(height, width):
    crop = RandomResizedCrop(8)
    picture = Image.new("RGB", (width, height))
    for seed in range(50):
        box = crop.box(height, width, seeds(1, seed))
        assert 0 <= box.top <= box.top + box.height <= height
        assert 0 <= box.left <= box.left + box.width <= width
        assert box.height >= 1
        assert box.width >= 1
    assert crop(picture, seeds(1)).size == (8, 8)


def test_resized_crops_are_distributed_as_torchvisions():
    """Shares of the area and ratios of 2,000 boxes, by Kolmogorov and Smirnov's test."""
    from scipy.stats import ks_2samp

    torch.manual_seed(0)
    theirs = TorchvisionCrop(8)
    picture = torch.empty(3, 375, 500)
    drawn = [theirs.make_params([picture]) for _ in range(2000)]
    boxes = [RandomResizedCrop(8).box(375, 500, seeds(1, seed)) for seed in range(2000)]
    for of_theirs, of_ours in (
        ([p["height"] * p["width"] for p in drawn], [b.height * b.width for b in boxes]),
        ([p["width"] / p["height"] for p in drawn], [b.width / b.height for b in boxes]),
        ([p["top"] for p in drawn], [b.top for b in boxes]),
        ([p["left"] for p in drawn], [b.left for b in boxes]),
    ):
        assert ks_2samp(of_theirs, of_ours).pvalue > 0.001


def test_a_narrow_picture_is_cropped_to_its_middle():
    box = RandomResizedCrop(8).box(1000, 10, seeds(1))
    assert box.width == 10
    assert box.height == 13
    assert box.top == (1000 - 13) // 2


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RandomResizedCrop(0),
        lambda: RandomResizedCrop(8, scale=(0.5, 0.1)),
        lambda: RandomResizedCrop(8, scale=(0.0, 1.0)),
        lambda: RandomResizedCrop(8, ratio=(2.0, 1.0)),
        lambda: CentreCrop(size=300, resize=256),
    ],
)
def test_invalid_views_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        wrong()
