"""The L∞ ball: every pixel may move by at most the bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.additive import AdditiveRegion
from gauntlet.threats.cube import CubeRegion


@dataclass(frozen=True)
class Linf:
    """All images x + δ in [0, 1] with max |δ| ≤ bound.

    Args:
        bound: largest change of any pixel, in [0, 1] pixel units (8/255, never 8).
    """

    identity: ClassVar[str] = "linf/1"
    bound: float
    name: ClassVar[str] = "linf"
    unit: ClassVar[str] = "L∞"

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= 1:
            raise ValueError(f"L∞ bound {self.bound} is not in [0, 1]: bounds are in pixel units; write 8/255, not 8")

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> LinfRegion:
        """The ball around each image. The classifier is not used."""
        low = _nearest(batch.images, -self.bound)
        high = _nearest(batch.images, self.bound)
        return LinfRegion(batch.images, self.bound, low, high)


@dataclass(frozen=True)
class LinfRegion(CubeRegion, AdditiveRegion):
    """The L∞ balls around one batch. The params are δ, `[N, C, H, W]`."""

    low: Tensor
    """The smallest allowed value of each pixel, `[N, C, H, W]`."""
    high: Tensor
    """The largest allowed value of each pixel, `[N, C, H, W]`."""

    def start(self, noise: Noise) -> Tensor:
        """Uniform in the ball."""
        return self.project(noise.uniform(self.images.shape, -self.bound, self.bound).to(self.images))

    def project(self, params: Tensor) -> Tensor:
        """The nearest δ inside the ball for which x + δ stays in [0, 1]."""
        return (self.images + params).clamp(self.low, self.high) - self.images

    def distance(self, params: Tensor) -> Tensor:
        """Max |x' − x|, `[N]` float64."""
        return self.change(params).abs().amax(1)


def _nearest(images: Tensor, change: float) -> Tensor:
    """x + change, clamped to [0, 1], and never farther from x than that.

    x ± bound is rounded: at 8/255 it is outside the ball on 1.5 % of float32 pixels, at smaller bounds by a larger
    share of them. Such a pixel is replaced by the next number towards x.
    """
    moved = (images + change).clamp(0, 1)
    beyond = (moved - images).abs() > abs(change)
    return moved.where(~beyond, moved.nextafter(images))
