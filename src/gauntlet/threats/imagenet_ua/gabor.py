"""Gabor of ImageNet-UA: sparse colour noise, correlated with waves of several orientations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.colour import clamp_inclusive
from gauntlet.threats.correlation import correlated
from gauntlet.threats.cube import CubeRegion
from gauntlet.threats.drawn import DrawnRegion
from gauntlet.threats.imagenet_ua.settings import check_bound, check_counts, check_shares

_FREQUENCY = (3.0, 5.75)
_SOFT = 0.001  # added to the standard deviation of the envelope


@dataclass(frozen=True)
class UAGabor:
    """All images x + Gabor noise, clamped to [0, 1]: sparse numbers of at most the bound, correlated with one kernel.

    Positions of the numbers, orientation and frequency of the kernel are drawn for each search of each example and are
    no variables. The authors' code draws the kernel anew for each step of a search; so does a search by `Redrawn`
    steps.

    Args:
        bound: largest number.
        sides: orientations of the waves, π/sides apart: 3 at 32 × 32, 5 at 224 × 224. The first counts as much as all
            of the others.
        kernel: side of the kernel in pixels, odd.
        std: standard deviation of the kernel's envelope, where the kernel spans [-½, ½]; 3 is nearly none.
        density: share of the numbers that may differ from 0.
    """

    identity: ClassVar[str] = "ua_gabor/1"
    bound: float
    sides: int
    kernel: int = 23
    std: float = 3.0
    density: float = 0.1
    name: ClassVar[str] = "ua_gabor"
    unit: ClassVar[str] = "L∞ of sparse noise"

    def __post_init__(self) -> None:
        name = "ImageNet-UA's Gabor"
        check_bound(name, self.bound, "0.03")
        check_counts(name, {"sides": self.sides, "kernel": self.kernel * (self.kernel % 2), "std": self.std})
        check_shares(name, {"density": self.density})

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UAGaborRegion:
        """The noise on each image. The classifier is not used."""
        return UAGaborRegion(batch.images, self.bound, self)


@dataclass(frozen=True)
class UAGaborRegion(DrawnRegion, CubeRegion):
    """The noise on one batch. The variables are the numbers of `[C, H, W]`, flat."""

    num_materials: ClassVar[int] = 2
    """Positions of the numbers, then waves."""
    settings: UAGabor

    @property
    def num_variables(self) -> int:
        """A number for every channel of every pixel."""
        return math.prod(self.images.shape[1:])

    def first(self, noise: Noise, drawn: Sequence[Noise]) -> Tensor:
        """All numbers equal, a uniform share of the bound for each example."""
        level = self.bound * noise.uniform((len(self.images), 1))
        return self.free(level.expand(-1, self.num_variables), drawn)

    def free(self, variables: Tensor, drawn: Sequence[Noise]) -> Tensor:
        """The numbers at the drawn positions, 0 elsewhere."""
        chosen = drawn[0].uniform(variables.shape) < self.settings.density
        return variables * chosen.to(variables)

    def render(self, variables: Tensor, drawn: Sequence[Noise]) -> Tensor:
        """x + the noise."""
        sparse = self.free(variables, drawn).reshape(self.images.shape)
        noise = correlated(sparse, kernels(drawn[1], self.settings).to(variables))
        return clamp_inclusive(self.images + noise, 0, 1)


def kernels(noise: Noise, settings: UAGabor) -> Tensor:
    """The kernel of each example, `[N, 1, kernel, kernel]`."""
    shape = (len(noise.seeds), 1, 1, 1)
    first = math.pi * noise.uniform(shape)
    frequency = noise.uniform(shape, *_FREQUENCY, draw=1)
    axis = torch.linspace(-0.5, 0.5, settings.kernel, device=first.device)
    x, y = axis, axis[:, None]
    total = torch.zeros_like(first)
    for side in range(settings.sides):
        angle = first + math.pi * side / settings.sides
        wave = (2 * math.pi * frequency * (x * angle.cos() + y * angle.sin())).cos()
        total = total + wave * (1 if side == 0 else 1 / settings.sides)
    return total * (-(x**2 + y**2) / (2 * (settings.std + _SOFT) ** 2)).exp()
