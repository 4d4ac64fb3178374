"""Read CIFAR-10-C as published: one array per type of corruption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gauntlet.corruptions.common import SEVERITIES, TYPES
from gauntlet.errors import UserError
from gauntlet.models.weights import digest_of

_TEST = 10_000  # images of CIFAR-10's test split
_FIRST = 50_000  # id of the first of them, after the training split
_digest_of = lru_cache(digest_of)  # each file is one of five severities


@dataclass(frozen=True)
class CIFAR10C:
    """CIFAR-10-C: an array of 50,000×32×32×3 bytes for every type, the severities one after the other, and labels.

    Args:
        folder: folder of `labels.npy`, `gaussian_noise.npy` and the others.

    Raises:
        UserError: a file is missing, damaged, or has another content.
    """

    identity: ClassVar[str] = "cifar10_c/1"
    folder: str
    name: ClassVar[str] = "CIFAR-10-C"

    def __post_init__(self) -> None:
        missing = [kind for kind in (*TYPES, "labels") if not (Path(self.folder) / f"{kind}.npy").is_file()]
        if missing:
            raise UserError(
                f"{self.folder} is not CIFAR-10-C: it has no {', '.join(f'{kind}.npy' for kind in missing)}"
            )
        for kind in TYPES:
            self._array(kind, (len(SEVERITIES) * _TEST, 32, 32, 3), "uint8")
        severities = self._array("labels", (len(SEVERITIES) * _TEST,), None).reshape(len(SEVERITIES), _TEST)
        if severities.dtype.kind not in "iu" or (severities != severities[0]).any():
            raise UserError(f"{self.folder}/labels.npy: expected the test labels five times; fetch it again")

    def content(self, kind: str, severity: int) -> str:
        """Return the SHA-256 of the type's file, all severities, and of the labels."""
        return " ".join(_digest_of(Path(self.folder) / f"{part}.npy") for part in (kind, "labels"))

    @property
    def types(self) -> Sequence[str]:
        """All types."""
        return TYPES

    def images(self, kind: str, severity: int, ids: Tensor) -> Tensor:
        """Return rows of a type's array; ids are those of `gauntlet.data.CIFAR10`."""
        rows = self._rows(ids) + (severity - 1) * _TEST
        array = self._array(kind, (len(SEVERITIES) * _TEST, 32, 32, 3), "uint8")
        return torch.from_numpy(array[rows.numpy()]).permute(0, 3, 1, 2)

    def labels(self, ids: Tensor) -> Tensor:
        """Return labels from `labels.npy`."""
        labels = self._array("labels", (len(SEVERITIES) * _TEST,), None)
        return torch.from_numpy(labels[self._rows(ids).numpy()].astype(np.int64))

    def _rows(self, ids: Tensor) -> Tensor:
        rows = ids.cpu() - _FIRST
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= _TEST):
            raise UserError(
                f"{self.folder} is CIFAR-10-C, and these are no test images of CIFAR-10: use dataset=cifar10"
            )
        return rows

    def _array(self, kind: str, shape: tuple[int, ...], dtype: str | None) -> NDArray[np.uint8]:
        """Map a file into memory, without unpickling."""
        file = Path(self.folder) / f"{kind}.npy"
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{file} is damaged ({str(error)[:60]}): fetch it again") from None
        if array.shape != shape or dtype not in (None, array.dtype.name):
            raise UserError(
                f"{file} holds {array.dtype} {list(array.shape)}: expected {dtype or 'labels'} {list(shape)}"
            )
        return np.asarray(array)
