"""Changed pixels: a limited share of the positions may change arbitrarily (L0)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.threats.l0 import L0Region


@dataclass(frozen=True)
class ChangedPixels:
    """All images in [0, 1] that differ from x at no more than a share of the positions.

    All channels of a position are one pixel.

    Args:
        bound: share of the positions, in [0, 1]: ⌊bound · H · W⌋ of them may change, at least 1 unless the bound is 0.
            A share means the same on images of every size.
    """

    identity: ClassVar[str] = "changed_pixels/1"
    bound: float
    name: ClassVar[str] = "pixels"
    unit: ClassVar[str] = "share of the pixels"

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= 1:
            raise ValueError(
                f"bound {self.bound} of changed pixels is not in [0, 1]: it is a share of all positions;"
                f" write 0.02 for one in fifty"
            )

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> ChangedPixelsRegion:
        """The set around each image. The classifier is not used."""
        return ChangedPixelsRegion(batch.images, self.bound)


@dataclass(frozen=True)
class ChangedPixelsRegion(L0Region):
    """The sets around one batch. The params are δ, `[N, C, H, W]`."""

    @property
    def count(self) -> int:
        """k, the number of positions of an image that may change."""
        return max(math.floor(self.bound * self._positions + 1e-9), 1 if self.bound else 0)  # 0.29 · 100 is 28.999…

    @property
    def _positions(self) -> int:
        return math.prod(self.images.shape[2:])

    def distance(self, params: Tensor) -> Tensor:
        """Positions at which x' differs from x, as a share of all positions, `[N]` float64.

        One position is farther than a bound of less than one position, which allows one all the same.
        """
        return super().distance(params) / self._positions
