"""MNIST and Fashion-MNIST: 70,000 grey images of 28×28 in ten classes, as the four official idx files.

LeCun et al., "Gradient-based learning applied to document recognition", 1998; Xiao et al., "Fashion-MNIST: a novel
image dataset for benchmarking machine learning algorithms", 2017.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gauntlet.data.augmentation import Augmentation
from gauntlet.data.examples import Examples
from gauntlet.data.fetch import download, exclusive, fetch_from_first
from gauntlet.data.module import ImageData, Splits, in_memory
from gauntlet.errors import UserError, first_line
from gauntlet.files import beginning

_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_FILES = (*_TRAIN, *_TEST)
_MAGIC = b"\0\0\x08"  # an idx file of bytes


class IdxImages(ImageData):
    """Images of 28×28 in idx files, plain or gzipped.

    Args:
        root: the folder with the four files; an empty one is filled from the official page.
        channels: 1 as published, or 3 equal ones for networks that expect colour images.
        size: height and width; more than 28 puts a black margin around the image.
        validation: share of the training images held out.
        batch_size, seed, augmentation: as in `ImageData`.
    """

    title: ClassVar[str]
    archives: ClassVar[Sequence[str]]
    """The published md5 of each gzipped file: images and labels of training, then of test."""
    contents: ClassVar[Sequence[str]]
    """The md5 of each file unpacked."""
    mirrors: ClassVar[Sequence[str]]
    installed: ClassVar[Sequence[str]] = ()
    """Folders into which system packages put the files."""

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 100,
        seed: int = 0,
        augmentation: Sequence[Augmentation] = (),
        channels: int = 3,
        size: int = 32,
        validation: float = 0.02,
    ) -> None:
        super().__init__(batch_size, seed, augmentation)
        if channels not in (1, 3):
            raise ValueError(f"channels {channels}: expected 1, or 3 equal ones")
        if size < 28:
            raise ValueError(f"size {size}: the images are 28×28, expected at least 28")
        self.root, self.channels, self.size, self.validation = Path(root), channels, size, validation

    def load(self) -> Splits:
        """Read the folder. Ids are indices in the training set; those of the test set begin at 60,000."""
        folder = self._folder()
        train = self._examples(folder, _TRAIN, 0)
        test = self._examples(folder, _TEST, 60_000)
        return in_memory(train, test, self.validation)

    def _examples(self, folder: Path, names: tuple[str, str], first: int) -> Examples:
        images = self._read(folder, names[0])
        labels = self._read(folder, names[1])
        classes = torch.from_numpy(np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))
        pixels = torch.from_numpy(np.frombuffer(images, np.uint8, offset=16).copy()).reshape(-1, 1, 28, 28)
        return Examples(self._padded(pixels), classes, first + torch.arange(len(classes)))

    def _padded(self, pixels: Tensor) -> Tensor:
        before = (self.size - 28) // 2
        after = self.size - 28 - before
        return F.pad(pixels, (before, after, before, after)).expand(-1, self.channels, -1, -1).contiguous()

    def _folder(self) -> Path:
        """Return the folder of the files; they are downloaded if there are none."""
        folder = self._existing()
        if folder is None:
            with exclusive(self.root):
                folder = self._existing() or self._fetch()
        return folder

    def _existing(self) -> Path | None:
        own = [self.root, self.root / "raw", self.root / type(self).__name__ / "raw"]
        for folder in (*own, *map(Path, self.installed)):
            if any(_file(folder, name) for name in _FILES):
                return folder
        return None

    def _fetch(self) -> Path:
        files = ", ".join(f"{name}.gz" for name in _FILES)
        instead = f"put {files} into that folder, or say where they are with dataset.root=<folder>"
        others = sorted(file.name for file in self.root.iterdir() if not file.name.startswith("."))
        if others:
            raise UserError(f"{self.root} holds no {self.title}, but {', '.join(others[:3])}: {instead}")
        sources = {mirror.split("/")[2]: lambda mirror=mirror: self._all_from(mirror) for mirror in self.mirrors}
        return fetch_from_first(self.title, self.root, sources, instead)

    def _all_from(self, mirror: str) -> Path:
        for name, md5 in zip(_FILES, self.archives, strict=True):
            download(f"{mirror}/{name}.gz", self.root / f"{name}.gz", f"md5:{md5}")
        return self.root

    def _read(self, folder: Path, name: str) -> bytes:
        """Read an idx file, unpacked and compared with its checksum.

        Raises:
            UserError: it is missing, damaged or another file.
        """
        file = _file(folder, name)
        if file is None:
            raise UserError(f"{folder} is {self.title} without {name}.gz: add what is missing")
        try:
            content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        except (OSError, EOFError, zlib.error) as error:
            reason = beginning(file) if isinstance(error, gzip.BadGzipFile) else first_line(error)
            raise UserError(f"{file} is damaged or no gzip archive ({reason}): remove it and fetch it again") from None
        official = self.contents[_FILES.index(name)]
        md5 = hashlib.md5(content).hexdigest()
        if md5 != official:
            raise UserError(f"{file} is not {self.title}'s {name}: {self._mismatch(file, content, md5, official)}")
        return content

    def _mismatch(self, file: Path, content: bytes, md5: str, official: str) -> str:
        """Say what a file is instead of the official one, and what to do."""
        for dataset in IdxImages.__subclasses__():
            if md5 in dataset.contents:
                actual = f"it is {dataset.title}'s {_FILES[dataset.contents.index(md5)]}"
                return f"{actual}; choose dataset.root=<folder of {self.title}>, or put the right file there"
        if not content.startswith(_MAGIC) and file.suffix != ".gz":
            return f"{beginning(file)}; remove it and fetch it again"
        sums = f"md5 {md5[:12]}…, the official one {official[:12]}…"
        return f"its content of {len(content):,} bytes has {sums}; remove it and fetch it again"


def _file(folder: Path, name: str) -> Path | None:
    """Return the file, gzipped or plain, under either of its two spellings; None if it is missing."""
    other = name.replace("-idx", ".idx")
    files = [folder / spelling for spelling in (f"{name}.gz", name, f"{other}.gz", other)]
    return next((file for file in files if file.is_file()), None)


class MNIST(IdxImages):
    """Handwritten digits; arguments as in `IdxImages`."""

    title = "MNIST"
    archives = (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    )
    contents = (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    )
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist")


class FashionMNIST(IdxImages):
    """Images of clothing; arguments as in `IdxImages`."""

    title = "Fashion-MNIST"
    archives = (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    )
    contents = (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    )
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    )
    installed = ("/usr/share/datasets/fashion-mnist",)
