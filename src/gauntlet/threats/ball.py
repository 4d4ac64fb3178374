"""Regions that bound the L2 norm of the params."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.threats.l2 import direction, norm, per_image
from gauntlet.threats.region import Region, share


@dataclass(frozen=True)
class BallRegion(Region):
    """All params with ‖p‖₂ ≤ bound."""

    def project(self, params: Tensor) -> Tensor:
        """The params scaled into the ball."""
        length = norm(params)
        scale = torch.where(length > self.bound, self.bound / length.clamp(min=1e-30), 1.0)
        return params * per_image(scale, params)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Along the gradient at unit length."""
        return params + step * self.bound * direction(gradient)

    def size(self, params: Tensor) -> Tensor:
        """‖p‖₂ as a share of the bound, `[N]`."""
        return share(norm(params), self.bound)

    def distance(self, params: Tensor) -> Tensor:
        """‖p‖₂, `[N]` float64."""
        return norm(params.double())

    def extent(self, params: Tensor) -> float | Tensor:
        """The bound."""
        return self.bound
