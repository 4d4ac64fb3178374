"""How a search that wanders outside its region comes back at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from gauntlet.threats import Region


class Projection(Protocol):
    """Params to params inside the region, or an honest refusal to promise that."""

    @property
    def promises(self) -> bool:
        """Whether what comes back is inside."""

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """Params `[N, …]` to params `[N, …]`."""


@dataclass(frozen=True)
class NoProjection:
    """Stay where the penalty left you: what perceptual adversarial training does."""

    promises: ClassVar[bool] = False

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """The same params."""
        return params


@dataclass(frozen=True)
class OntoRegion:
    """The region's own projection; for a perceptual ball, bisection towards x."""

    promises: ClassVar[bool] = True

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """The nearest params inside, as the region measures it."""
        return region.project(params)
