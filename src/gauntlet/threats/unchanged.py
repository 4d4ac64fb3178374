"""The threat model of nobody: x itself and nothing else. It makes clean accuracy a column like the others."""

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
        """The images alone."""
        return UnchangedRegion(batch.images, 0.0)


@dataclass(frozen=True)
class UnchangedRegion(Region):
    """The images of one batch. The params are `[N, 1]` zeros: there is nothing to choose."""

    def zero(self) -> Tensor:
        """The only params there are."""
        return self.images.new_zeros(len(self.images), 1)

    def start(self, noise: Noise) -> Tensor:
        """The only params there are."""
        return self.zero()

    def perturb(self, params: Tensor) -> Tensor:
        """x."""
        return self.images

    def project(self, params: Tensor) -> Tensor:
        """The only params there are."""
        return torch.zeros_like(params)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """There is nowhere to go."""
        return params

    def size(self, params: Tensor) -> Tensor:
        """Nothing, `[N]`."""
        return params.abs().flatten(1).amax(1)
