"""Read ImageNet-C, or a part of it, as published: a tree of pictures per type of corruption."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gauntlet.corruptions.common import SEVERITIES, TYPES
from gauntlet.data.folder import id_of
from gauntlet.data.pictures import digests_of
from gauntlet.errors import UserError

_SPLITS = ("val", "test")  # what the folder of ImageNet's validation images may be called


@dataclass(frozen=True)
class ImageNetC:
    """ImageNet-C, or a part of it: `<type>/<severity>/<wnid>/*.JPEG`.

    A type in the folder needs all five severities with the same files. Types that are missing are generated.

    Args:
        folder: folder of `gaussian_noise` and the others.

    Raises:
        UserError: the folder has no type, or one is incomplete.
    """

    identity: ClassVar[str] = "imagenet_c/1"
    folder: str
    types: Sequence[str] = field(init=False)
    name: ClassVar[str] = "ImageNet-C"

    def __post_init__(self) -> None:
        types = [kind for kind in TYPES if (Path(self.folder) / kind).is_dir()]
        if not types:
            raise UserError(f"{self.folder} is not ImageNet-C: it has none of {', '.join(TYPES)}")
        object.__setattr__(self, "types", tuple(types))
        for kind, level in product(types, SEVERITIES):
            if differ := sorted(self._listed(kind, level).symmetric_difference(self._names)):
                raise UserError(
                    f"{self.folder}/{kind}/{level} and {types[0]}/1 hold other pictures ({differ[0]} and"
                    f" {len(differ) - 1} more are in one of them only): unpack it again"
                )

    def content(self, kind: str, severity: int) -> str:
        """Return the SHA-256 of the names and bytes of the pictures.

        It is cached: reading all of ImageNet-C takes a minute or more.
        """
        return _content(Path(self.folder) / kind / str(severity), tuple(self._names))

    def _listed(self, kind: str, level: int) -> set[str]:
        """`<wnid>/<name>` of every picture."""
        folder = Path(self.folder) / kind / str(level)
        names = {f"{file.parent.name}/{file.name}" for file in folder.glob("*/*.JPEG")}
        if not names:
            raise UserError(f"{folder} holds no <wnid>/*.JPEG: ImageNet-C has 5 severities of a type; unpack it again")
        return names

    @cached_property
    def _names(self) -> Sequence[str]:
        """`<wnid>/<name>` of every picture, the same in all types and severities."""
        return sorted(self._listed(self.types[0], SEVERITIES[0]))

    @cached_property
    def _paths(self) -> dict[int, str]:
        """Names by the id that `gauntlet.data` gives the clean picture."""
        return {id_of(f"{split}/{name}"): name for split in _SPLITS for name in self._names}

    def images(self, kind: str, severity: int, ids: Tensor) -> Tensor:
        """Return the pictures as published, 224×224."""
        pixels = [self._pixels(Path(self.folder) / kind / str(severity), number) for number in ids.tolist()]
        return torch.stack(pixels) if pixels else torch.empty(0, 3, 224, 224, dtype=torch.uint8)

    def _pixels(self, folder: Path, number: int) -> Tensor:
        if number not in self._paths:
            raise UserError(
                f"{folder} lacks pictures of the test split: use the ImageNet validation images it is made of"
            )
        file = folder / self._paths[number]
        try:
            with Image.open(file) as picture:
                return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        except (OSError, SyntaxError) as error:
            raise UserError(f"{file} cannot be read ({str(error)[:60]}): unpack it again") from None

    def labels(self, ids: Tensor) -> None:
        """Return None: the folder of a picture is its class."""


@lru_cache
def _content(folder: Path, names: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{folder.parent.name}\0{folder.name}\n".encode())
    for name, content in zip(names, digests_of([folder / name for name in names]), strict=True):
        digest.update(os.fsencode(name) + f"\0{content}\n".encode())
    return digest.hexdigest()
