"""Frost: photographs of ice, provided by the user, laid over the picture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gauntlet.corruptions.weather import grey
from gauntlet.errors import UserError
from gauntlet.identity import PLACE
from gauntlet.noise import Noise

TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The photographs that are drawn, five of the six in the authors' repository."""


@dataclass(frozen=True)
class Frost:
    """A random crop of one of five photographs of ice, added to the darkened picture.

    Args:
        keep: weight of the picture.
        ice: weight of the photograph.
        every: step between the pixels taken from the photograph: 1 for all, 5 for CIFAR-sized pictures.
        folder: folder of `frost1.png` to `frost5.jpg`. Their content is part of the identity, the folder is not.

    Raises:
        UserError: the folder has only some of them.
    """

    identity: ClassVar[str] = "frost/1"
    keep: float
    ice: float
    every: int
    folder: str = field(metadata=PLACE)
    content: str = field(init=False)
    """SHA-256 of the files; empty if there are none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", _content(self.folder))

    @property
    def available(self) -> bool:
        """Whether the photographs exist."""
        return bool(self.content)

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Add ice to a batch.

        Raises:
            UserError: there are no photographs, or they are smaller than the images.
        """
        textures = _textures(self.folder, self.every)
        height, width = images.shape[2:]
        which = _chosen(noise.uniform((len(images),)), len(textures))
        drawn = noise.uniform((len(images), 2), draw=1)
        crops = []
        for texture, shares in zip((textures[i] for i in which.tolist()), drawn, strict=True):
            room = texture.shape[1] - height, texture.shape[2] - width
            if min(room) < 1:
                raise UserError(
                    f"frost over images of {height}×{width}: its photographs have {texture.shape[1]}×"
                    f"{texture.shape[2]}; leave the type out with attack_suite.types.frost=null"
                )
            top = int(_chosen(shares[0], room[0]))
            left = int(_chosen(shares[1], room[1]))
            crops.append(texture[:, top : top + height, left : left + width])
        ice = torch.stack(crops).double() / 255 if crops else images.new_zeros(0, 3, height, width)
        return self.keep * images + self.ice * (ice if images.shape[1] == 3 else grey(ice))


def _chosen(share: Tensor, count: int) -> Tensor:
    """An index below `count`, from uniform numbers in [0, 1)."""
    return (share * count).long().clamp(max=count - 1)


def _content(folder: str) -> str:
    files = [Path(folder) / name for name in TEXTURES]
    missing = [file.name for file in files if not file.is_file()]
    if len(missing) == len(TEXTURES):
        return ""
    if missing:
        raise UserError(f"{folder} lacks some frost photographs: add {', '.join(missing)}")
    return _digest(tuple(files))


@lru_cache
def _digest(files: tuple[Path, ...]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


@lru_cache
def _textures(folder: str, every: int) -> Sequence[Tensor]:
    """Read the photographs, `[3, H, W]` uint8 each.

    Every fifth pixel, from the third on, is the one that OpenCV's bilinear shrinking to a fifth reads.
    """
    if not _content(folder):
        raise UserError(f"{folder} holds no frost photographs ({TEXTURES[0]} to {TEXTURES[-1]}): put them there")
    textures = []
    for name in TEXTURES:
        try:
            with Image.open(Path(folder) / name) as picture:
                pixels = torch.from_numpy(np.array(picture.convert("RGB")))
        except OSError as error:
            raise UserError(f"{folder}/{name} cannot be read ({str(error)[:60]}): fetch it again") from None
        textures.append(pixels[every // 2 :: every, every // 2 :: every].permute(2, 0, 1).contiguous())
    return textures
