"""Glitch of ImageNet-UA: bands of lines are shifted sideways, each colour on its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.cube import CubeRegion
from gauntlet.threats.imagenet_ua.settings import check_bound, check_counts
from gauntlet.threats.sampling import bilinear, framed, pixels


@dataclass(frozen=True)
class UAGlitch:
    """All images whose bands of lines are shifted sideways by at most the bound, every channel on its own.

    Beyond an edge the image is mirrored. As published, positions are half a pixel to the left and up: the zero image is
    x shifted by half a pixel.

    Args:
        bound: largest shift, where the image spans [-1, 1].
        lines: number of bands: 16 at 32 × 32, 56 at 224 × 224.
    """

    identity: ClassVar[str] = "ua_glitch/1"
    bound: float
    lines: int
    name: ClassVar[str] = "ua_glitch"
    unit: ClassVar[str] = "L∞ of shifts"

    def __post_init__(self) -> None:
        check_bound("ImageNet-UA's glitch", self.bound, "0.05")
        check_counts("ImageNet-UA's glitch", {"lines": self.lines})

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UAGlitchRegion:
        """The shifts of each image. The classifier is not used."""
        return UAGlitchRegion(batch.images, self.bound, framed(batch.images), self.lines)


@dataclass(frozen=True)
class UAGlitchRegion(CubeRegion):
    """The shifts of one batch. The params are to the right, `[N, C, lines]`."""

    frame: Tensor
    """`[N, C, H + 2, W + 2]`, the images in a frame one pixel wide."""
    lines: int

    def zero(self) -> Tensor:
        """No shift."""
        return self.images.new_zeros(len(self.images), self.images.shape[1], self.lines)

    def start(self, noise: Noise) -> Tensor:
        """Uniform between 0 and the bound, as published."""
        zero = self.zero()
        return noise.uniform(zero.shape, 0, self.bound).to(zero)

    def perturb(self, params: Tensor) -> Tensor:
        """The shifted images."""
        height, width = self.images.shape[2:]
        band = torch.arange(height, device=params.device) * self.lines // height
        x = pixels(width, params) - 0.5 + params[:, :, band, None] * (width / 2)
        y = pixels(height, params)[:, None] - 0.5
        return bilinear(self.frame, _reflected(x, width), _reflected(y, height).expand_as(x))


def _reflected(position: Tensor, count: int) -> Tensor:
    """Positions mirrored at the outer edges, half a pixel beyond the first and last centre, and kept between those."""
    from_edge = (position + 0.5).abs() % (2 * count)
    return (torch.minimum(from_edge, 2 * count - from_edge) - 0.5).clamp(0, count - 1)
