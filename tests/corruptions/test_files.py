"""Published images are found by example, and damaged or incomplete files are reported in one line."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from gauntlet.corruptions import CIFAR10C, TYPES, ImageNetC, StoredCorruption
from gauntlet.data import Batch
from gauntlet.data.folder import id_of
from gauntlet.errors import UserError
from gauntlet.identity import describe
from gauntlet.noise import Noise
from tests.fixtures import random_images

COUNT = 6


@pytest.fixture
def cifar10_c(tmp_path, monkeypatch):
    """CIFAR-10-C of six test images."""
    monkeypatch.setattr("gauntlet.corruptions.cifar10_c_files._TEST", COUNT)
    draw = np.random.default_rng(0)
    for kind in TYPES:
        np.save(tmp_path / f"{kind}.npy", draw.integers(256, size=(5 * COUNT, 32, 32, 3), dtype=np.uint8))
    np.save(tmp_path / "labels.npy", np.tile(np.arange(COUNT), 5))
    return tmp_path


def batch_of(ids, labels, shape=(3, 32, 32)):
    return Batch(random_images(len(ids), *shape), labels, ids)


def shown(transform, ids, labels, shape=(3, 32, 32)):
    """By ids alone: the random numbers play no part."""
    return transform(batch_of(ids, labels, shape), Noise(torch.zeros_like(ids)))


def test_rows_of_cifar_10_c(cifar10_c):
    collection = CIFAR10C(str(cifar10_c))
    ids = torch.tensor([50_003, 50_000])
    transform = StoredCorruption("fog", 4, collection)
    images_found = shown(transform, ids, torch.tensor([3, 0]))
    expected = np.load(cifar10_c / "fog.npy")[[3 * COUNT + 3, 3 * COUNT]].transpose(0, 3, 1, 2)
    assert (images_found * 255).round().byte().equal(torch.from_numpy(expected))
    batch = batch_of(ids, torch.tensor([3, 0]))
    assert transform.verify(batch, Noise(ids), images_found).tolist() == [True, True]  # what the grid asks
    assert transform.verify(batch, Noise(ids), images_found.flip(0)).tolist() == [False, False]
    assert transform.source == "CIFAR-10-C"


def test_the_identity_is_the_content(cifar10_c, tmp_path_factory):
    there = tmp_path_factory.mktemp("elsewhere") / "copy"
    there.symlink_to(cifar10_c)
    one, other = (StoredCorruption("fog", 1, CIFAR10C(str(folder))) for folder in (cifar10_c, there))
    assert describe(one) == describe(other)
    assert describe(one) != describe(StoredCorruption("snow", 1, CIFAR10C(str(cifar10_c))))
    assert str(cifar10_c) not in str(describe(one))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "fog.npy").unlink(), "is not CIFAR-10-C: it has no fog.npy"),
        (lambda folder: (folder / "fog.npy").write_bytes(b"\x93NUMPY"), "fog.npy is damaged"),
        (
            lambda folder: np.save(folder / "fog.npy", np.zeros((7, 32, 32, 3), np.uint8)),
            r"expected uint8 \[30, 32, 32, 3\]",
        ),
        (lambda folder: np.save(folder / "snow.npy", np.zeros((30, 32, 32, 3))), "snow.npy holds float64"),
        (lambda folder: np.save(folder / "labels.npy", np.arange(30)), "expected the test labels five times"),
        (lambda folder: np.save(folder / "fog.npy", np.array([object()])), "fog.npy is damaged"),
    ],
)
def test_a_damaged_cifar_10_c_is_refused_in_one_line(cifar10_c, spoil, message):
    spoil(cifar10_c)
    with pytest.raises(UserError, match=message) as refused:
        CIFAR10C(str(cifar10_c))
    assert "\n" not in str(refused.value)


def test_images_of_another_dataset_are_refused(cifar10_c):
    transform = StoredCorruption("fog", 1, CIFAR10C(str(cifar10_c)))
    with pytest.raises(UserError, match="no test images of CIFAR-10"):
        shown(transform, torch.tensor([7]), torch.tensor([0]))
    with pytest.raises(UserError, match="has other labels for these examples"):
        shown(transform, torch.tensor([50_001]), torch.tensor([0]))
    with pytest.raises(UserError, match=r"images of \[3, 32, 32\], the dataset of \[3, 28, 28\]"):
        shown(transform, torch.tensor([50_000]), torch.tensor([0]), (3, 28, 28))


@pytest.fixture
def imagenet_c(tmp_path):
    """Two types of ImageNet-C, three pictures of two classes."""
    for kind in ("fog", "contrast"):
        for severity in range(1, 6):
            for i, name in enumerate(("n01/a.JPEG", "n01/b.JPEG", "n02/c.JPEG")):
                file = tmp_path / kind / str(severity) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (10 * severity, 20 * i, 0)).save(file, "JPEG", quality=95)
    return tmp_path


@pytest.mark.parametrize("split", ["val", "test"])
def test_pictures_of_imagenet_c(imagenet_c, split):
    collection = ImageNetC(str(imagenet_c))
    assert collection.types == ("fog", "contrast")
    ids = torch.tensor([id_of(f"{split}/n02/c.JPEG"), id_of(f"{split}/n01/a.JPEG")])
    images_found = shown(StoredCorruption("fog", 3, collection), ids, torch.tensor([1, 0]), (3, 8, 8))
    colours = (images_found[:, :2, 0, 0] * 255).round()
    assert colours.allclose(torch.tensor([[30.0, 40], [30, 0]]), atol=2)


def test_a_damaged_imagenet_c_is_refused_in_one_line(imagenet_c, tmp_path_factory):
    with pytest.raises(UserError, match="is not ImageNet-C: it has none of gaussian_noise"):
        ImageNetC(str(tmp_path_factory.mktemp("empty")))
    collection = ImageNetC(str(imagenet_c))
    with pytest.raises(UserError, match="lacks pictures of the test split"):
        shown(StoredCorruption("fog", 3, collection), torch.tensor([5]), torch.tensor([0]), (3, 8, 8))
    broken = imagenet_c / "fog" / "5" / "n01" / "b.JPEG"
    broken.write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.JPEG cannot be read"):
        shown(
            StoredCorruption("fog", 5, collection),
            torch.tensor([id_of("val/n01/b.JPEG")]),
            torch.tensor([0]),
            (3, 8, 8),
        )
    broken.unlink()
    with pytest.raises(UserError, match=r"fog/5 and fog/1 hold other pictures \(n01/b\.JPEG and 0 more"):
        ImageNetC(str(imagenet_c))
    Image.new("RGB", (8, 8)).save(broken, "JPEG")
    for file in (imagenet_c / "contrast" / "2").rglob("*.JPEG"):
        file.unlink()
    with pytest.raises(UserError, match="contrast/2 holds no <wnid>"):
        ImageNetC(str(imagenet_c))


def test_other_pixels_under_the_same_names_and_sizes_are_another_corruption(imagenet_c, tmp_path_factory):
    """The identity is what is in the files, not what they are called."""
    there = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(imagenet_c, there)
    here = ImageNetC(str(imagenet_c))
    assert here.content("fog", 2) == ImageNetC(str(there)).content("fog", 2) != here.content("fog", 3)
    other = tmp_path_factory.mktemp("other") / "copy"
    shutil.copytree(imagenet_c, other)
    file = other / "fog" / "2" / "n01" / "b.JPEG"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1  # of the compressed pixels
    file.write_bytes(content)
    changed = ImageNetC(str(other))
    assert changed.content("fog", 2) != here.content("fog", 2)
    assert changed.content("fog", 1) == here.content("fog", 1)
