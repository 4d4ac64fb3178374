"""Changed pixels: a limited number of positions may change arbitrarily (L0)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.additive import AdditiveRegion
from gauntlet.threats.region import share


def most(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` highest of `[N, D]` scores, as booleans; among equals the first are taken."""
    rank = scores.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, rank, True)


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
class ChangedPixelsRegion(AdditiveRegion):
    """The sets around one batch. The params are δ, `[N, C, H, W]`."""

    @property
    def count(self) -> int:
        """k, the number of positions of an image that may change."""
        return max(math.floor(self.bound * self._positions + 1e-9), 1 if self.bound else 0)  # 0.29 · 100 is 28.999…

    @property
    def _positions(self) -> int:
        return math.prod(self.images.shape[2:])

    def start(self, noise: Noise) -> Tensor:
        """k random positions with random colours, all sets of positions equally likely."""
        count, _, height, width = self.images.shape
        positions = most(noise.uniform((count, height * width), draw=1), self.count).reshape(count, 1, height, width)
        return torch.where(positions, noise.uniform(self.images.shape).to(self.images) - self.images, 0)

    def project(self, params: Tensor) -> Tensor:
        """The nearest δ of k changed positions for which x + δ is in [0, 1].

        Kept are the positions that save most of the distance to p: ‖p‖² − ‖p − clip(p)‖² (Croce & Hein, "Sparse and
        imperceivable adversarial attacks", ICCV 2019, §3.1); of equals the first.
        """
        clipped = self.clip(params)
        saved = (params.square() - (params - clipped).square()).sum(1, keepdim=True)
        return torch.where(self._chosen(torch.where(clipped.any(1, keepdim=True), saved, -1)), clipped, 0)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """`step` · k positions, at least one, become what the gradient wants most.

        Best for a linear gain are the k positions of largest Σ |gradient| · (way to the end of [0, 1]), each at that
        end, and x at all others. The positions that gain most by becoming that do so; if more than k are changed then,
        those are x again that are worth least.
        """
        ends = torch.where(gradient == 0, params, torch.where(gradient > 0, 1 - self.images, -self.images))
        worth = (gradient * ends).sum(1, keepdim=True)
        value = (gradient * params).sum(1, keepdim=True)
        best = self._chosen(worth)
        profit = torch.where(best, worth, 0) - value
        moving = self._chosen(profit, max(1, round(step * self.count)) if self.count else 0) & (profit > 0)
        moved = torch.where(moving, torch.where(best, ends, 0), params)
        rank = torch.where(moving, torch.inf, torch.where(best, worth, value))
        return torch.where(self._chosen(torch.where(moved.any(1, keepdim=True), rank, -torch.inf)), moved, 0)

    def size(self, params: Tensor) -> Tensor:
        """Changed positions as a share of those that may change, `[N]`."""
        return share(params.any(1).flatten(1).sum(1).to(params.dtype), self.count)

    def distance(self, params: Tensor) -> Tensor:
        """Positions at which x' differs from x, as a share of all positions, `[N]` float64.

        One position is farther than a bound of less than one position, which allows one all the same.
        """
        changed = (self.perturb(params) != self.images).any(1)
        return changed.flatten(1).sum(1).double() / self._positions

    def _chosen(self, scores: Tensor, count: int | None = None) -> Tensor:
        """Where the k (or `count`) highest of `[N, 1, H, W]` scores are."""
        return most(scores.flatten(1), self.count if count is None else count).reshape(scores.shape)
