"""MNIST and Fashion-MNIST from idx files, gzipped or plain, verified by their content."""

import gzip
import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from gauntlet.data import MNIST, FashionMNIST
from gauntlet.errors import UserError
from tests.fixtures import shared_data


@pytest.fixture
def digits(monkeypatch, tmp_path):
    """A folder with 60 training and 20 test images, with patched official checksums."""
    generator, sums = np.random.default_rng(0), []
    for part, count in (("train", 60), ("t10k", 20)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        contents = {
            f"{part}-images-idx3-ubyte": struct.pack(">4i", 2051, count, 28, 28) + images.tobytes(),
            f"{part}-labels-idx1-ubyte": struct.pack(">2i", 2049, count) + bytes(i % 10 for i in range(count)),
        }
        for name, content in contents.items():
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
            sums.append(hashlib.md5(content).hexdigest())
    monkeypatch.setattr(MNIST, "contents", sums)
    monkeypatch.setattr(MNIST, "mirrors", ("http://127.0.0.1:9/mnist",))
    return tmp_path


def test_images_are_padded_and_repeated(digits):
    framed = MNIST(digits).splits.test
    plain = MNIST(digits, channels=1, size=28).splits.test
    assert framed.shape == (3, 32, 32)
    assert plain.shape == (1, 28, 28)
    assert framed.images[:, 1:2, 2:30, 2:30].equal(plain.images)
    assert framed.images[:, :, :2].count_nonzero() == 0
    assert framed.images[:, 0].equal(framed.images[:, 2])
    assert MNIST(digits, size=31).splits.test.shape == (3, 31, 31)
    content = gzip.decompress((digits / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert plain.images.numpy().tobytes() == content[16:]
    assert plain.labels.tolist() == [i % 10 for i in range(20)]
    assert plain.ids.tolist() == list(range(60_000, 60_020))
    assert MNIST(digits).fingerprint != MNIST(digits, size=28).fingerprint


@pytest.mark.parametrize("path", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("spelling", ["-idx", ".idx"])
def test_plain_files_and_other_folders_are_the_same_set(digits, tmp_path, path, spelling):
    other = tmp_path / "other" / path
    other.mkdir(parents=True)
    for file in digits.glob("*.gz"):
        (other / file.stem.replace("-idx", spelling)).write_bytes(gzip.decompress(file.read_bytes()))
    assert MNIST(tmp_path / "other").fingerprint == MNIST(digits).fingerprint


def test_validation_is_held_out_of_training(digits):
    splits = MNIST(digits, validation=0.2).splits
    train, held = set(splits.train.ids.tolist()), set(splits.validation.ids.tolist())
    assert not train & held
    assert train | held == set(range(60))
    assert 4 <= len(held) <= 20


def missing(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()


def truncated(folder):
    file = folder / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])


def other_content(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))


def no_gzip(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"other")


def web_page(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_text("\n<!DOCTYPE html><html>404</html>")


def plain_web_page(folder):
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    (folder / "train-labels-idx1-ubyte").write_text("<html>sign in first</html>")


def swapped(folder):
    shutil.copy(folder / "t10k-images-idx3-ubyte.gz", folder / "train-images-idx3-ubyte.gz")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (missing, "is MNIST without t10k-labels-idx1-ubyte.gz"),
        (truncated, "train-images-idx3-ubyte.gz is damaged"),
        (
            other_content,
            "train-labels-idx1-ubyte.gz is not MNIST's train-labels-idx1-ubyte: its content of 5 bytes has",
        ),
        (no_gzip, "train-labels-idx1-ubyte.gz is damaged or no gzip archive (it begins with b'other')"),
        (web_page, "train-labels-idx1-ubyte.gz is damaged or no gzip archive (it is a web page): remove it"),
        (plain_web_page, "train-labels-idx1-ubyte is not MNIST's train-labels-idx1-ubyte: it is a web page; remove"),
        (swapped, "it is MNIST's t10k-images-idx3-ubyte; choose dataset.root=<folder of MNIST>, or put"),
    ],
)
def test_a_damaged_copy_is_refused_by_name(digits, harm, words):
    harm(digits)
    with pytest.raises(UserError) as refusal:
        _ = MNIST(digits).splits
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_empty_folder_is_one_line_that_says_what_to_put_where(digits, tmp_path):
    with pytest.raises(UserError, match=r"MNIST is not in .*nowhere and could not be fetched .*dataset.root"):
        _ = MNIST(tmp_path / "nowhere").splits
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "holiday.txt").write_text("sun")
    with pytest.raises(UserError, match=r"holds no MNIST, but holiday.txt"):
        _ = MNIST(tmp_path / "else").splits
    assert [file.name for file in (tmp_path / "else").iterdir()] == ["holiday.txt"], "no lock is left behind"
    with pytest.raises(UserError, match=r"holiday.txt is a file: expected the folder it lies in"):
        _ = MNIST(tmp_path / "else" / "holiday.txt").splits


@pytest.mark.parametrize(("wrong", "words"), [({"size": 27}, "at least 28"), ({"channels": 2}, "channels 2")])
def test_invalid_shapes_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        MNIST("anywhere", **wrong)


def test_the_published_files_hold_what_we_compare_with():
    """The checksums of the archives are the published ones; ours are those of their content."""
    folder = shared_data("mnist")
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    assert [hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names] == list(MNIST.archives)
    data = MNIST(folder)
    everything = torch.cat([data.splits.train.labels, data.splits.validation.labels])
    assert everything.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.splits.test.labels[:4].tolist() == [7, 2, 1, 0]


def test_debians_package_is_found():
    if not Path(FashionMNIST.installed[0]).is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    data = FashionMNIST("nowhere")
    assert data.splits.test.labels.bincount().tolist() == [1000] * 10


def test_a_fashion_folder_is_not_mnist(digits, tmp_path, monkeypatch):
    shutil.copytree(digits, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    with pytest.raises(UserError, match=r"is not Fashion-MNIST's .* it is MNIST's train.*of Fashion-MNIST"):
        _ = FashionMNIST(tmp_path / "copy").splits
