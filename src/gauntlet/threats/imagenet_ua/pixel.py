"""Pixel of ImageNet-UA: blocks of pixels are blended with one of their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.ball import BallRegion
from gauntlet.threats.imagenet_ua.settings import check_bound, check_counts
from gauntlet.threats.l2 import norm, per_image


@dataclass(frozen=True)
class UAPixel:
    """All images (1 − v) · x + v · q with ‖v‖₂ ≤ bound and v in [0, 1] for every block and channel.

    q is the block's top left pixel.

    Args:
        bound: largest L2 norm of v over all blocks and channels.
        block: side of a block in pixels: 4 at 32 × 32, 16 at 224 × 224. The last ones of a side that is no multiple are
            smaller.
    """

    identity: ClassVar[str] = "ua_pixel/1"
    bound: float
    block: int
    name: ClassVar[str] = "ua_pixel"
    unit: ClassVar[str] = "L2 of blends"

    def __post_init__(self) -> None:
        check_bound("ImageNet-UA's pixel", self.bound, "5")
        check_counts("ImageNet-UA's pixel", {"block": self.block})

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UAPixelRegion:
        """The blends of each image. The classifier is not used."""
        corners = batch.images[:, :, :: self.block, :: self.block]
        return UAPixelRegion(batch.images, self.bound, corners, self.block)


@dataclass(frozen=True)
class UAPixelRegion(BallRegion):
    """The blends of one batch. The params are v, `[N, C, ⌈H/block⌉, ⌈W/block⌉]`."""

    corners: Tensor
    """q of every block, in the shape of v."""
    block: int

    def zero(self) -> Tensor:
        """No blend."""
        return self.images.new_zeros(self.corners.shape)

    def start(self, noise: Noise) -> Tensor:
        """Uniform numbers, scaled to a uniform share of the bound."""
        zero = self.zero()
        drawn = noise.uniform(zero.shape).to(zero)
        length = self.bound * noise.uniform((len(zero),), draw=1).to(zero)
        return (drawn * per_image(length / norm(drawn).clamp(min=1e-30), zero)).clamp(0, 1)

    def perturb(self, params: Tensor) -> Tensor:
        """The blended images. Between x and q, they are in [0, 1]."""
        blend = self._spread(params)
        return self.images.lerp(self._spread(self.corners), blend)

    def project(self, params: Tensor) -> Tensor:
        """v scaled into the ball, then clamped to [0, 1], which only shortens it."""
        return super().project(params).clamp(0, 1)

    def _spread(self, blocks: Tensor) -> Tensor:
        """Every number of `[N, C, h, w]` repeated over its block, `[N, C, H, W]`."""
        height, width = self.images.shape[2:]
        return blocks.repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)[:, :, :height, :width]
