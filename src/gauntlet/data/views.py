"""How a picture of any size becomes an image of the dataset's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from PIL.Image import Image
from torchvision.transforms.v2 import functional as tv

from gauntlet.noise import Noise


class View(Protocol):
    """A picture to a square one."""

    @property
    def size(self) -> int:
        """Height and width of what comes out."""

    def __call__(self, picture: Image, noise: Noise) -> Image:
        """The view that the noise of this one example picks."""


@dataclass(frozen=True)
class CentreCrop:
    """The middle, after the shorter side was brought to a length: bilinear, with antialiasing. For evaluation.

    Args:
        size: of the middle, in pixels.
        resize: of the shorter side.
    """

    identity: ClassVar[str] = "centre_crop/1"
    size: int = 224
    resize: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise ValueError(f"{self}: expected a size of at least 1, and resize at least as large")

    def __call__(self, picture: Image, noise: Noise) -> Image:
        """The noise plays no part."""
        return tv.center_crop(tv.resize(picture, [self.resize]), [self.size])


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the picture, resized: bilinear, with antialiasing. For training.

    Szegedy et al., "Going deeper with convolutions", CVPR 2015, §6; of ten tries the first that fits in the picture.

    Args:
        size: height and width of what comes out.
        scale: smallest and largest share of the picture's area.
        ratio: smallest and largest width / height.
    """

    identity: ClassVar[str] = "random_resized_crop/1"
    size: int = 224
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if not (self.size >= 1 and 0 < self.scale[0] <= self.scale[1] <= 1 and 0 < self.ratio[0] <= self.ratio[1]):
            raise ValueError(
                f"{self}: expected scale in (0, 1], positive ratios, smallest first, and size of at least 1"
            )

    def __call__(self, picture: Image, noise: Noise) -> Image:
        """One part of the picture, resized."""
        box = self.box(picture.height, picture.width, noise)
        return tv.resized_crop(picture, *box, size=[self.size, self.size])

    def box(self, height: int, width: int, noise: Noise) -> Box:
        """Which part of a picture of this size."""
        tries = noise.uniform([1, 10, 4])[0].tolist()
        for area_at, ratio_at, top_at, left_at in tries:
            area = height * width * (self.scale[0] + area_at * (self.scale[1] - self.scale[0]))
            ratio = math.exp(math.log(self.ratio[0]) + ratio_at * math.log(self.ratio[1] / self.ratio[0]))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return Box(int(top_at * (height - h + 1)), int(left_at * (width - w + 1)), h, w)
        return self._middle(height, width)

    def _middle(self, height: int, width: int) -> Box:
        """As much of the middle as a ratio in the range allows."""
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = (width, round(width / ratio)) if width / height < ratio else (round(height * ratio), height)
        return Box((height - h) // 2, (width - w) // 2, h, w)
