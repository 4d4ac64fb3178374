"""Regions of additive changes: the params are δ and the image is x + δ."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.threats.region import Region


@dataclass(frozen=True)
class AdditiveRegion(Region):
    """All x + δ for some δ. The params are δ, `[N, C, H, W]`."""

    def zero(self) -> Tensor:
        """δ = 0."""
        return torch.zeros_like(self.images)

    def perturb(self, params: Tensor) -> Tensor:
        """x + δ."""
        return self.images + params

    def clip(self, params: Tensor) -> Tensor:
        """The nearest δ for which x + δ is in [0, 1]."""
        return (self.images + params).clamp(0, 1) - self.images

    def change(self, params: Tensor) -> Tensor:
        """x' − x of the computed images, `[N, C·H·W]` in float64: δ after rounding."""
        return (self.perturb(params).double() - self.images.double()).flatten(1)

    def extent(self, params: Tensor) -> float | Tensor:
        """1, the range of a pixel; 0 at a bound of 0."""
        return 1.0 if self.bound else 0.0
