"""Views: crops that turn a picture of any size into an image of the dataset's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from PIL.Image import Image
from torchvision.transforms.v2 import functional as tv

from gauntlet.noise import Noise


class View(Protocol):
    """Turns a picture into a square one."""

    @property
    def size(self) -> int:
        """Height and width of the result."""

    def __call__(self, picture: Image, noise: Noise) -> Image:
        """Return the view of a picture; the noise of its example decides random choices."""


@dataclass(frozen=True)
class CentreCrop:
    """Resize of the shorter side, bilinear with antialiasing, then a centre crop. For evaluation.

    Args:
        size: of the crop, in pixels.
        resize: length of the shorter side, in pixels.
    """

    identity: ClassVar[str] = "centre_crop/1"
    size: int = 224
    resize: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise ValueError(f"{self}: expected a size of at least 1, and resize at least as large")

    def __call__(self, picture: Image, noise: Noise) -> Image:
        """Return the crop; the noise plays no part."""
        return tv.center_crop(tv.resize(picture, [self.resize]), [self.size])


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random crop, resized bilinearly with antialiasing. For training.

    Szegedy et al., "Going deeper with convolutions", CVPR 2015, §6; the first of ten draws that fits in the picture.

    Args:
        size: height and width of the result.
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
        """Return the resized crop."""
        box = self.box(picture.height, picture.width, noise)
        return tv.resized_crop(picture, *box, size=[self.size, self.size])

    def box(self, height: int, width: int, noise: Noise) -> Box:
        """Return the crop of a picture of this size."""
        draws = noise.uniform([1, 10, 4])[0].tolist()
        for area_at, ratio_at, top_at, left_at in draws:
            area = height * width * (self.scale[0] + area_at * (self.scale[1] - self.scale[0]))
            ratio = math.exp(math.log(self.ratio[0]) + ratio_at * math.log(self.ratio[1] / self.ratio[0]))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return Box(int(top_at * (height - h + 1)), int(left_at * (width - w + 1)), h, w)
        return self._middle(height, width)

    def _middle(self, height: int, width: int) -> Box:
        """Return the largest centred crop with a ratio in the range."""
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        if width / height < ratio:
            w, h = width, round(width / ratio)
        else:
            w, h = round(height * ratio), height
        return Box((height - h) // 2, (width - w) // 2, h, w)
