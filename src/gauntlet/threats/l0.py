"""Changed pixels: a number of positions may change arbitrarily (L0)."""

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
class L0:
    """All images in [0, 1] that differ from x at no more than some positions.

    All channels of a position are one pixel.

    Args:
        bound: number of positions that may change; of 2.5, 2 may.
    """

    identity: ClassVar[str] = "l0/1"
    bound: float
    name: ClassVar[str] = "l0"
    unit: ClassVar[str] = "pixels"

    def __post_init__(self) -> None:
        if not self.bound >= 0 or 0 < self.bound < 1:
            raise ValueError(
                f"L0 bound {self.bound}: expected a number of pixels, such as 12, or 0; for a share of all pixels use"
                f" ChangedPixels"
            )

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> L0Region:
        """The set around each image. The classifier is not used."""
        images = batch.images
        if len(images) and self.bound > math.prod(images.shape[2:]):
            raise ValueError(f"L0 bound {self.bound} is more pixels than {tuple(images.shape[1:])} images have")
        return L0Region(images, self.bound)


@dataclass(frozen=True)
class L0Region(AdditiveRegion):
    """The sets around one batch. The params are δ, `[N, C, H, W]`."""

    @property
    def count(self) -> int:
        """k, the number of positions of an image that may change."""
        return math.floor(self.bound + 1e-9)

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
        """Positions at which x' differs from x, `[N]` float64."""
        changed = (self.perturb(params) != self.images).any(1)
        return changed.flatten(1).sum(1).double()

    def _chosen(self, scores: Tensor, count: int | None = None) -> Tensor:
        """Where the k (or `count`) highest of `[N, 1, H, W]` scores are."""
        return most(scores.flatten(1), self.count if count is None else count).reshape(scores.shape)
