"""The threat model of x only, which makes clean accuracy a column like the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.region import Region


@dataclass(frozen=True)
class Unchanged:
    """T(x) = {x}."""

    identity: ClassVar[str] = "unchanged/1"
    name: ClassVar[str] = "clean"
    bound: ClassVar[float] = 0.0
    unit: ClassVar[str] = ""

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UnchangedRegion:
        """The images themselves."""
        return UnchangedRegion(batch.images, 0.0)


@dataclass(frozen=True)
class UnchangedRegion(Region):
    """The images of one batch. The params are `[N, 1]` zeros."""

    def zero(self) -> Tensor:
        """Zeros."""
        return self.images.new_zeros(len(self.images), 1)

    def start(self, noise: Noise) -> Tensor:
        """Zeros."""
        return self.zero()

    def perturb(self, params: Tensor) -> Tensor:
        """x."""
        return self.images

    def project(self, params: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(params)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """The same params."""
        return params

    def size(self, params: Tensor) -> Tensor:
        """0 for zero params, `[N]`."""
        return params.abs().flatten(1).amax(1)
