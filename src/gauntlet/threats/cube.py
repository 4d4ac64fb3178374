"""Regions that bound every number of the params separately."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gauntlet.threats.region import Region, share


@dataclass(frozen=True)
class CubeRegion(Region):
    """All params with max |p| ≤ bound."""

    def project(self, params: Tensor) -> Tensor:
        """The nearest params inside the bound."""
        return params.clamp(-self.bound, self.bound)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Along the sign of the gradient, the steepest ascent under L∞. Params without a gradient stay."""
        return params + step * self.bound * gradient.sign()

    def size(self, params: Tensor) -> Tensor:
        """Max |p| as a share of the bound, `[N]`."""
        return share(params.abs().flatten(1).amax(1), self.bound)

    def distance(self, params: Tensor) -> Tensor:
        """Max |p|, `[N]` float64."""
        return params.double().abs().flatten(1).amax(1)

    def extent(self, params: Tensor) -> float | Tensor:
        """The bound."""
        return self.bound
