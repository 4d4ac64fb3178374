"""Wood of ImageNet-UA: dark rings around the centre, whose radius varies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.colour import clamp_inclusive
from gauntlet.threats.cube import CubeRegion
from gauntlet.threats.imagenet_ua.settings import check_bound, check_counts
from gauntlet.threats.imagenet_ua.upsampling import upsampled
from gauntlet.threats.sampling import pixels

_SOFT = 1e-6  # under the root, whose slope at 0 is infinite


@dataclass(frozen=True)
class UAWood:
    """All images x · |sin(π · rings · d)|^(1/root), d the distance from the centre changed by at most the bound.

    The change is a coarse grid, enlarged bilinearly. Without change there are rings, too: they are the zero image.

    Args:
        bound: largest change of the distance, where the image spans [-1, 1].
        grid: numbers of the change along either axis: 16 at 32 × 32, 32 at 224 × 224.
        rings: number of rings from the centre to an edge.
        root: the larger, the thinner are the rings.
    """

    identity: ClassVar[str] = "ua_wood/1"
    bound: float
    grid: int
    rings: float
    root: float = 8.0
    name: ClassVar[str] = "ua_wood"
    unit: ClassVar[str] = "L∞ of ring radii"

    def __post_init__(self) -> None:
        check_bound("ImageNet-UA's wood", self.bound, "0.05")
        check_counts("ImageNet-UA's wood", {"grid": self.grid, "rings": self.rings, "root": self.root})

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UAWoodRegion:
        """The rings on each image. The classifier is not used."""
        return UAWoodRegion(batch.images, self.bound, self.grid, self.rings, self.root)


@dataclass(frozen=True)
class UAWoodRegion(CubeRegion):
    """The rings on one batch. The params are the changes of the distance, `[N, 1, grid, grid]`."""

    grid: int
    rings: float
    root: float

    def zero(self) -> Tensor:
        """Round rings."""
        return self.images.new_zeros(len(self.images), 1, self.grid, self.grid)

    def start(self, noise: Noise) -> Tensor:
        """Round rings, as published."""
        return self.zero()

    def perturb(self, params: Tensor) -> Tensor:
        """The images with rings."""
        height, width = self.images.shape[2:]
        distance = self._distance() + upsampled(params, height, width, "bilinear")
        wave = (math.pi * self.rings * distance).sin().abs()
        return clamp_inclusive(self.images * (wave + _SOFT) ** (1 / self.root), 0, 1)

    def _distance(self) -> Tensor:
        """From the centre, `[H, W]`."""
        height, width = self.images.shape[2:]
        x = 2 * pixels(width, self.images) / width - 1
        y = 2 * pixels(height, self.images) / height - 1
        return torch.hypot(x, y[:, None])
