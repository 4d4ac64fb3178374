"""File layouts of CIFAR-10, each read into the records of the official binary layout.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gauntlet.errors import UserError, first_line

Records = NDArray[np.uint8]
"""`[N, 3073]`: label, then the 32×32 red, green and blue pixels, row by row."""

BATCHES = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""SHA-256 of the records of each official batch: the files of the binary layout."""

_BATCH = 10_000
_LABELS = "labels.npz"


class CIFAR10Content(NamedTuple):
    """The part of CIFAR-10 that a folder holds."""

    train: Records
    train_ids: NDArray[np.int64]
    """Indices in the official training set, 0 to 49,999."""
    test: Records
    test_ids: NDArray[np.int64]
    """Indices in the official test set, from 50,000 on."""
    layout: str
    whole: bool


@dataclass(frozen=True)
class Layout:
    """A layout with one file per official batch.

    Args:
        name: for messages.
        suffix: of the files, after the name of the batch.
        labels: files that hold the labels, if the batches do not.
        read: makes the records of a batch from its name, its bytes and the bytes of the label files.
        partial: whether training batches may be missing.
    """

    name: str
    suffix: str
    labels: tuple[str, ...]
    read: Callable[[str, bytes, dict[str, bytes]], Records]
    partial: bool = False


def find_content(folder: Path) -> CIFAR10Content | None:
    """Read the images of a folder in any layout; None if it holds no such files.

    Raises:
        UserError: files are missing, damaged, or not CIFAR-10's.
    """
    if not folder.is_dir():
        return None
    names = {file.name for file in folder.iterdir()}
    if {"train.webp", "test.webp", _LABELS} <= names:
        return _selection(folder)
    for layout in LAYOUTS:
        present = [batch for batch in BATCHES if batch + layout.suffix in names]
        if present:
            return _batches(folder, layout, present)
    return None


def _batches(folder: Path, layout: Layout, present: list[str]) -> CIFAR10Content:
    required = ["data_batch_1", "test_batch"] if layout.partial else list(BATCHES)
    needed = [*(batch + layout.suffix for batch in required), *layout.labels]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder} is CIFAR-10's {layout.name} layout without {', '.join(missing)}: add what is missing"
        )
    labels = {name: _bytes(folder / name) for name in layout.labels}
    records = {batch: _verified(folder / (batch + layout.suffix), batch, layout, labels) for batch in present}
    train = [batch for batch in present if batch != "test_batch"]
    ids = {batch: np.arange(_BATCH) + _BATCH * list(BATCHES).index(batch) for batch in present}
    return CIFAR10Content(
        np.concatenate([records[batch] for batch in train]),
        np.concatenate([ids[batch] for batch in train]),
        records["test_batch"],
        ids["test_batch"],
        layout.name,
        len(present) == len(BATCHES),
    )


def _verified(file: Path, batch: str, layout: Layout, labels: dict[str, bytes]) -> Records:
    """Read an official batch, and compare its pixels and labels with the official checksum.

    Raises:
        UserError: the file is damaged or differs.
    """
    again = "remove it and fetch it again"
    try:
        records = layout.read(batch, _bytes(file), labels)
    except (ValueError, TypeError, KeyError, EOFError, OSError, BadZipFile, pickle.UnpicklingError) as error:
        raise UserError(f"{file} is damaged or no CIFAR-10 batch ({_brief(error)}): {again}") from None
    checksum = hashlib.sha256(records.tobytes()).hexdigest()
    if checksum != BATCHES[batch]:
        raise UserError(
            f"{file} is not CIFAR-10's {batch}: its pixels and labels have SHA-256 {checksum[:12]}…,"
            f" the official ones {BATCHES[batch][:12]}…; {again}"
        )
    return records


def _selection(folder: Path) -> CIFAR10Content:
    """Read a selection of images with their indices in the official set: `train.webp`, `test.webp`, `labels.npz`."""
    try:
        arrays = _arrays(_bytes(folder / _LABELS))
        train, train_indices = _selected(folder, arrays, "train", 50_000)
        test, test_indices = _selected(folder, arrays, "test", 10_000)
    except (ValueError, TypeError, KeyError, EOFError, OSError, BadZipFile) as error:
        raise UserError(f"{folder} is no selection of CIFAR-10 ({_brief(error)}): fetch it again") from None
    return CIFAR10Content(train, train_indices, test, test_indices + 50_000, "WebP selection", False)


def _selected(
    folder: Path, arrays: dict[str, NDArray[Any]], split: str, size: int
) -> tuple[Records, NDArray[np.int64]]:
    """Return records and official indices of a selection's split, out of `size` official images."""
    pixels = _sheet(_bytes(folder / f"{split}.webp"))
    labels = arrays[split]
    indices = arrays[f"{split}_index"].astype(np.int64)
    # the last row of 20 tiles may be partly empty
    if not (len(labels) == len(indices) <= len(pixels) < len(labels) + 20 and len(labels)):
        raise ValueError(f"{len(pixels)} {split} images, {len(labels)} labels and {len(indices)} indices")
    if len(np.unique(indices)) != len(indices) or indices.min() < 0 or indices.max() >= size or labels.max() > 9:
        raise ValueError(f"its {split} labels or indices are none of CIFAR-10's")
    return _records(labels, pixels[: len(labels)]), indices


def _from_binary(batch: str, content: bytes, labels: dict[str, bytes]) -> Records:
    if len(content) != _BATCH * 3073:
        raise ValueError(f"{len(content):,} bytes, expected {_BATCH * 3073:,}")
    return np.frombuffer(content, np.uint8).reshape(_BATCH, 3073)


def _from_python(batch: str, content: bytes, labels: dict[str, bytes]) -> Records:
    held = _Plain(io.BytesIO(content), encoding="bytes").load()
    classes, pixels = np.asarray(held[b"labels"]), np.asarray(held[b"data"])
    if pixels.dtype != np.uint8 or pixels.shape != (len(classes), 3072):
        raise ValueError(f"data of {pixels.dtype} {list(pixels.shape)}, expected uint8 [10000, 3072]")
    return np.concatenate([classes.astype(np.uint8)[:, None], pixels], 1)


class _Plain(pickle.Unpickler):
    """Loads numpy arrays of numbers, dicts, lists, strings and numbers only, so that no file can run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the three names that an array of numbers needs."""
        if (module.replace("._core", ".core"), name) == ("numpy.core.multiarray", "_reconstruct"):
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of images needs")


def _from_sheet(batch: str, content: bytes, labels: dict[str, bytes]) -> Records:
    return _records(_labels_of(batch, _arrays(labels[_LABELS])), _sheet(content))


def _from_rows(batch: str, content: bytes, labels: dict[str, bytes]) -> Records:
    classes = {split: np.asarray(json.loads(labels[f"{split}_lables.json"])) for split in ("train", "test")}
    pixels = _picture(content)
    if pixels.shape != (_BATCH, 1024, 3):
        raise ValueError(f"a picture of {pixels.shape[1]}×{pixels.shape[0]}, expected 1024×10000")
    return _records(_labels_of(batch, classes), pixels.reshape(_BATCH, 32, 32, 3))


def _labels_of(batch: str, labels: dict[str, NDArray[Any]]) -> NDArray[Any]:
    if batch == "test_batch":
        return labels["test"]
    start = _BATCH * list(BATCHES).index(batch)
    return labels["train"][start : start + _BATCH]


def _records(labels: NDArray[Any], pixels: NDArray[np.uint8]) -> Records:
    """Make records from `[N]` labels and `[N, 32, 32, 3]` pixels."""
    if len(labels) != len(pixels):
        raise ValueError(f"{len(pixels):,} images and {len(labels):,} labels")
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), 3072)
    return np.concatenate([labels.astype(np.uint8)[:, None], planes], 1)


def _sheet(content: bytes) -> NDArray[np.uint8]:
    """Read `[N, 32, 32, 3]` pixels from a picture of tiles, 20 in a row."""
    pixels = _picture(content)
    if pixels.shape[1] != 640 or pixels.shape[0] % 32:
        raise ValueError(f"a picture of {pixels.shape[1]}×{pixels.shape[0]}, expected rows of 20 tiles of 32×32")
    return pixels.reshape(-1, 32, 20, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)


def _picture(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB"))


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from None


def _brief(error: Exception) -> str:
    return f"no {error} in it" if isinstance(error, KeyError) else first_line(error)[:100]


LAYOUTS = (
    Layout("binary", ".bin", (), _from_binary),
    Layout("PNG sheet", ".png", ("train_lables.json", "test_lables.json"), _from_rows),
    Layout("WebP sheet", ".webp", (_LABELS,), _from_sheet, partial=True),
    Layout("python", "", (), _from_python),
)
