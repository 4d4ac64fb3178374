"""What holds for every corruption: an image depends on itself and its seed alone, in any batch, shape and colour."""

import numpy as np
import pytest
import torch

from gauntlet.corruptions import TYPES, Brightness, Contrast, GeneratedCorruption, JPEGCompression, ShotNoise
from gauntlet.corruptions.blurs import disk, glass_sources
from gauntlet.errors import UserError
from gauntlet.noise import Noise
from tests.corruptions.tables import operations, with_frost
from tests.fixtures import batch_of, random_images, shared_data


def corrupted(operation, name, images, seeds, jpeg=None):
    return GeneratedCorruption(name, 3, operation, jpeg)(batch_of(images), Noise(seeds))


@pytest.mark.parametrize("name", TYPES)
def test_no_image_depends_on_its_batch_mates(name):
    operation = with_frost("cifar10")[name][2]
    images, seeds, order = random_images(5, 3, 32, 32), torch.arange(5) + (1 << 61), torch.tensor([3, 0, 4, 1, 2])
    together = corrupted(operation, name, images, seeds)
    assert together.equal(corrupted(operation, name, images[order], seeds[order])[order.argsort()])
    for i in range(5):
        assert together[i].equal(corrupted(operation, name, images[i : i + 1], seeds[i : i + 1])[0])


@pytest.mark.parametrize("name", TYPES)
def test_shapes_dtypes_and_colours(name):
    operation = with_frost("cifar10")[name][4]
    for shape in ((0, 3, 32, 32), (2, 1, 28, 28), (2, 3, 40, 33)):
        images = random_images(*shape)
        result = corrupted(operation, name, images, torch.arange(shape[0]))
        assert result.shape == images.shape
        levels = result * 255
        assert levels.allclose(levels.round(), atol=1e-4)
        assert not shape[0] or not result.equal(images)
    images = random_images(2, 3, 32, 32)
    last = images.contiguous(memory_format=torch.channels_last)
    expected = corrupted(operation, name, images, torch.arange(2))
    assert corrupted(operation, name, last, torch.arange(2)).equal(expected)
    double = corrupted(operation, name, images.double(), torch.arange(2))
    assert double.dtype is torch.float64
    assert double.float().allclose(expected, atol=1e-6)


@pytest.mark.parametrize("variant", ["cifar10", "imagenet"])
@pytest.mark.parametrize("name", TYPES)
def test_severities_have_numbers_of_their_own(variant, name):
    cells = with_frost(variant)[name]
    assert len(set(cells)) == 5
    if "noise" in name:
        images = torch.full((4, 3, 32, 32), 0.5)
        changes = [float((corrupted(cell, name, images, torch.arange(4)) - 0.5).abs().mean()) for cell in cells]
        assert changes == sorted(changes)


def test_chance_has_the_moments_it_should_have():
    """100,000 photon counts of one level; their mean and variance are c·x and c·x, within five standard errors."""
    level, photons, count = 51 / 255, 60.0, 100_000
    images = torch.full((1, 1, 250, 400), level, dtype=torch.float64)
    counts = ShotNoise(photons)(images, Noise(torch.tensor([1]))) * photons
    rate = level * photons
    assert abs(float(counts.mean()) - rate) < 5 * (rate / count) ** 0.5
    assert abs(float(counts.var()) - rate) < 5 * rate * (2 / count + 1 / (rate * count)) ** 0.5
    hit = operations("cifar10")["impulse_noise"][4](images, Noise(torch.tensor([1]))) != level
    assert abs(float(hit.double().mean()) - 0.07) < 5 * (0.07 * 0.93 / count) ** 0.5


@pytest.mark.parametrize(
    ("radius", "softness", "pixels", "total", "centre"),
    [(0.3, 0.4, 1, 1, 0.84497), (0.5, 0.6, 1, 1, 0.44521), (1, 0.2, 5, 1, 0.2), (1.5, 0.1, 9, 1, 0.11111),
     (3, 0.1, 29, 1, 1 / 29), (8, 0.5, 197, 1.01298, 1 / 197), (10, 0.5, 317, 1.01079, 1 / 317)],
)  # fmt: skip
def test_disks_are_the_published_ones(radius, softness, pixels, total, centre):
    kernel = disk(radius, softness)
    assert np.isclose(kernel.sum(), total, atol=1e-5)
    assert np.isclose(kernel[len(kernel) // 2, len(kernel) // 2], centre, atol=1e-5)


def test_glass_leaves_the_margin_and_copies():
    where = glass_sources(9, 11, 2, 3, Noise(torch.arange(4))).reshape(9, 11, 4)
    positions = torch.arange(99).reshape(9, 11, 1).expand(-1, -1, 4)
    assert where[:3].equal(positions[:3])
    assert where[:, :3].equal(positions[:, :3])
    inside = where[3:, 3:]
    assert not inside.equal(positions[3:, 3:])
    assert len(where[:, :, 0].unique()) < 99  # a neighbour is copied, not swapped
    assert (where // 11 - positions // 11).abs().max() <= 6


def test_closed_forms():
    images = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.4, 0.6]]).reshape(2, 3, 1, 1).expand(-1, -1, 8, 8)
    bright = corrupted(Brightness(0.2), "brightness", images, torch.arange(2))[:, :, 0, 0]
    expected = torch.tensor([[51, 51, 51], [68, 136, 204]]) / 255  # hue and saturation stay, V rises by 0.2
    assert bright.allclose(expected, atol=1.01 / 255)
    half = torch.stack((torch.zeros(1, 4, 4), torch.ones(1, 4, 4)), -1).reshape(1, 1, 4, 8)
    grey = corrupted(Contrast(0.5), "contrast", half, torch.arange(1))
    assert (grey * 255).round().unique().tolist() == [63, 191]  # (0 − ½)/2 + ½ and (1 − ½)/2 + ½, cut off


def test_what_was_saved_as_jpeg_afterwards():
    images = random_images(2, 3, 32, 32)
    plain = corrupted(Contrast(0.5), "contrast", images, torch.arange(2))
    saved = corrupted(Contrast(0.5), "contrast", images, torch.arange(2), jpeg=85)
    assert saved.equal(corrupted(JPEGCompression(85), "contrast", plain, torch.arange(2)))


def test_frost_needs_its_photographs(tmp_path):
    absent = operations("cifar10", str(tmp_path))["frost"][0]
    assert not absent.available
    with pytest.raises(UserError, match="no frost photographs"):
        corrupted(absent, "frost", random_images(1, 3, 32, 32), torch.arange(1))
    (tmp_path / "frost1.png").write_bytes((shared_data("frost") / "frost1.png").read_bytes())
    with pytest.raises(UserError, match=r"add frost2.png, frost3.png, frost4.jpg, frost5.jpg"):
        operations("imagenet", str(tmp_path))


def test_frost_is_known_by_its_photographs_and_not_by_their_place(tmp_path):
    from gauntlet.identity import describe

    here = with_frost("cifar10")["frost"][0]
    (tmp_path / "copy").symlink_to(shared_data("frost"))
    there = operations("cifar10", str(tmp_path / "copy"))["frost"][0]
    assert describe(here) == describe(there)
    assert "folder" not in describe(here)
    assert describe(here)["content"] == here.content


def test_types_and_severities_are_those_of_the_benchmark():
    with pytest.raises(ValueError, match="corruption gaussian at severity 1: expected 1 to 5 of gaussian_noise"):
        GeneratedCorruption("gaussian", 1, Contrast(0.5))
    with pytest.raises(ValueError, match="contrast at severity 6"):
        GeneratedCorruption("contrast", 6, Contrast(0.5))
