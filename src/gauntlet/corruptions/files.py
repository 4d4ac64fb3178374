"""Corrupted images as their authors published them: CIFAR-10-C and ImageNet-C, looked up by example."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from gauntlet.attacks import Adversarial
from gauntlet.checks import check_batch
from gauntlet.corruptions.common import SEVERITIES, TYPES, Unsearched, as_integers, check_place
from gauntlet.data.examples import unit
from gauntlet.data.folder import id_of
from gauntlet.errors import UserError
from gauntlet.identity import PLACE
from gauntlet.noise import Noise

_TEST = 10_000  # images of CIFAR-10's test split
_FIRST = 50_000  # id of the first of them, after the training split
_SPLITS = ("val", "test")  # what the folder of ImageNet's validation images may be called


class Collection(Protocol):
    """Published files."""

    name: ClassVar[str]

    @property
    def types(self) -> Sequence[str]:
        """Those that are there, whole."""

    def images(self, kind: str, severity: int, ids: Tensor) -> Tensor:
        """`[N, C, H, W]` uint8, of the examples with these ids.

        Raises:
            UserError: an example has none, or a file is damaged.
        """

    def labels(self, ids: Tensor) -> Tensor | None:
        """`[N]`, if the files have labels of their own."""

    def content(self, kind: str, severity: int) -> str:
        """A digest of what is there of one type."""


@dataclass(frozen=True)
class CIFAR10C:
    """CIFAR-10-C: an array of 50,000×32×32×3 bytes for every type, the severities one after the other, and labels.

    Args:
        folder: of `labels.npy`, `gaussian_noise.npy` and the others.

    Raises:
        UserError: a file is missing, damaged, or not what it should be.
    """

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
        """SHA-256 of the type's file, all severities, and of the labels."""
        return " ".join(_digest(Path(self.folder) / f"{part}.npy") for part in (kind, "labels"))

    @property
    def types(self) -> Sequence[str]:
        """All of them."""
        return TYPES

    def images(self, kind: str, severity: int, ids: Tensor) -> Tensor:
        """Rows of a type's array; ids are those of `gauntlet.data.CIFAR10`."""
        rows = self._rows(ids) + (severity - 1) * _TEST
        array = self._array(kind, (len(SEVERITIES) * _TEST, 32, 32, 3), "uint8")
        return torch.from_numpy(array[rows.numpy()]).permute(0, 3, 1, 2)

    def labels(self, ids: Tensor) -> Tensor:
        """From `labels.npy`."""
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
        """A file mapped into memory, nothing unpickled."""
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


@dataclass(frozen=True)
class ImageNetC:
    """ImageNet-C, or a part of it: `<type>/<severity>/<wnid>/*.JPEG`.

    Types that are there have all five severities with the same files; those that are not are generated.

    Args:
        folder: of `gaussian_noise` and the others.

    Raises:
        UserError: none of the types is there, or one is incomplete.
    """

    folder: str
    types: Sequence[str] = field(init=False)
    name: ClassVar[str] = "ImageNet-C"

    def __post_init__(self) -> None:
        types = [kind for kind in TYPES if (Path(self.folder) / kind).is_dir()]
        if not types:
            raise UserError(f"{self.folder} is not ImageNet-C: it has none of {', '.join(TYPES)}")
        object.__setattr__(self, "types", tuple(types))
        expected = self._listed(types[0], SEVERITIES[0])
        for kind, level in product(types, SEVERITIES):
            if differ := sorted(self._listed(kind, level) ^ expected):
                raise UserError(
                    f"{self.folder}/{kind}/{level} and {types[0]}/1 hold other pictures ({differ[0]} and"
                    f" {len(differ) - 1} more are in one of them only): unpack it again"
                )

    def content(self, kind: str, severity: int) -> str:
        """SHA-256 of the names of the pictures: what is in a hundred gigabytes is not read to know it."""
        names = sorted(self._listed(kind, severity))
        return hashlib.sha256("\0".join((kind, str(severity), *names)).encode()).hexdigest()

    def _listed(self, kind: str, level: int) -> set[str]:
        """`<wnid>/<name>` of every picture."""
        place = Path(self.folder) / kind / str(level)
        found = {f"{file.parent.name}/{file.name}" for file in place.glob("*/*.JPEG")}
        if not found:
            raise UserError(f"{place} holds no <wnid>/*.JPEG: ImageNet-C has 5 severities of a type; unpack it again")
        return found

    @cached_property
    def _paths(self) -> dict[int, str]:
        """`<wnid>/<name>` by the id that `gauntlet.data` gives the clean picture."""
        names = self._listed(self.types[0], SEVERITIES[0])
        return {id_of(f"{split}/{name}"): name for split in _SPLITS for name in names}

    def images(self, kind: str, severity: int, ids: Tensor) -> Tensor:
        """The pictures as they are: 224×224."""
        pixels = [self._pixels(Path(self.folder) / kind / str(severity), number) for number in ids.tolist()]
        return torch.stack(pixels) if pixels else torch.empty(0, 3, 224, 224, dtype=torch.uint8)

    def _pixels(self, place: Path, number: int) -> Tensor:
        if number not in self._paths:
            raise UserError(
                f"{place} lacks pictures of the test split: use the ImageNet validation images it is made of"
            )
        file = place / self._paths[number]
        try:
            with Image.open(file) as picture:
                return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        except (OSError, SyntaxError) as error:
            raise UserError(f"{file} cannot be read ({str(error)[:60]}): unpack it again") from None

    def labels(self, ids: Tensor) -> None:
        """None: a picture is known by its folder, which is its class."""


@lru_cache
def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Stored:
    """Images from published files.

    Args:
        type: one of `TYPES`.
        severity: from 1 to 5.
        files: where they are looked up.
    """

    type: str
    severity: int
    files: Collection = field(metadata=PLACE)
    content: str = field(init=False)
    """A digest of the files."""
    bound: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        check_place(self.type, self.severity)
        object.__setattr__(self, "content", self.files.content(self.type, self.severity))

    @property
    def name(self) -> str:
        """The type."""
        return self.type

    @property
    def source(self) -> str:
        """`CIFAR-10-C`, `ImageNet-C`."""
        return self.files.name

    def around(self, images: Tensor, classifier: nn.Module | None = None) -> StoredRegion:
        """The published images, one per id."""
        return StoredRegion(images, 0.0, self)


@dataclass(frozen=True)
class StoredRegion(Unsearched):
    """The published images of a batch; the integers of the params are ids."""

    threat: Stored

    @torch.no_grad()
    def perturb(self, params: Tensor) -> Tensor:
        """The images in the files.

        Raises:
            UserError: they are of another size.
        """
        found = unit(self.threat.files.images(self.threat.type, self.threat.severity, as_integers(params.cpu())))
        if len(found) and found.shape != self.images.shape:
            raise UserError(
                f"{self.threat.source} has images of {list(found.shape[1:])}, the dataset of"
                f" {list(self.images.shape[1:])}: leave attack_suite.published out to generate them"
            )
        return found.reshape(self.images.shape).to(self.images)


@dataclass(frozen=True)
class LookedUp:
    """Shows each example its published corrupted image. What other attacks take for seeds are the examples' ids here.

    Args:
        threat_model: which corruption, from which files.
    """

    threat_model: Stored

    @property
    def stays_inside(self) -> bool:
        """True."""
        return True

    def __call__(
        self,
        classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        seeds: Tensor | None = None,
    ) -> Adversarial:
        """`[N, C, H, W]` published images.

        Args:
            classifier: plays no part.
            images: `[N, C, H, W]`, the clean ones.
            labels: `[N]`, compared with those of the files.
            seeds: `[N]`, the ids of the examples.

        Raises:
            UserError: an example has no image in the files, or has another label there.
            ValueError: no ids.
        """
        check_batch(images, labels)
        if seeds is None:
            raise ValueError("published corruptions are looked up by example: give seeds=<ids of the examples>")
        theirs = self.threat_model.files.labels(seeds)
        if theirs is not None and not theirs.equal(labels.cpu()):
            raise UserError(f"{self.threat_model.source} has other labels for these examples: fetch labels.npy again")
        region = self.threat_model.around(images, classifier)
        params = region.start(Noise(seeds))
        return Adversarial(region.perturb(params), params, region.size(params))
