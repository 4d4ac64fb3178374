"""The L∞ ball: every pixel may move by at most the bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.noise import Noise
from gauntlet.threats.region import Region, share


@dataclass(frozen=True)
class Linf:
    """All images x + δ in [0, 1] with max |δ| ≤ bound.

    Args:
        bound: largest change of any pixel, in [0, 1] pixel units (8/255, never 8).
    """

    bound: float
    name: ClassVar[str] = "linf"

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= 1:
            raise ValueError(f"L∞ bound {self.bound} is not in [0, 1]: bounds are in pixel units; write 8/255, not 8")

    def around(self, images: Tensor, classifier: nn.Module | None = None) -> LinfRegion:
        """The ball around each of `[N, C, H, W]` images. The classifier plays no part."""
        return LinfRegion(images, self.bound)


@dataclass(frozen=True)
class LinfRegion(Region):
    """The L∞ balls around one batch. The params are δ, `[N, C, H, W]`."""

    def identity(self) -> Tensor:
        """δ = 0."""
        return torch.zeros_like(self.images)

    def start(self, noise: Noise) -> Tensor:
        """Uniform in the ball."""
        return self.project(noise.uniform(self.images.shape, -self.bound, self.bound).to(self.images))

    def perturb(self, params: Tensor) -> Tensor:
        """x + δ."""
        return self.images + params

    def project(self, params: Tensor) -> Tensor:
        """The nearest δ inside the ball for which x + δ stays in [0, 1]."""
        return (self.images + params.clamp(-self.bound, self.bound)).clamp(0, 1) - self.images

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Along the sign of the gradient."""
        return params + step * self.bound * gradient.sign()

    def size(self, params: Tensor) -> Tensor:
        """Max |δ| as a share of the bound, `[N]`."""
        return share(params.abs().flatten(1).amax(1), self.bound)
