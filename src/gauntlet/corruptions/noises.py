"""Sensor noise: Gaussian, shot and impulse noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import poisson
from torch import Tensor

from gauntlet.corruptions.operation import as_levels
from gauntlet.noise import Noise

_HALF = 2.0**-25  # half a step between uniform numbers; added, it makes them midpoints of equal cells, never 0


@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise on every value, as in low light.

    Args:
        std: standard deviation, in [0, 1] pixel units.
    """

    identity: ClassVar[str] = "gaussian_noise/1"
    std: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Return x + σ·normal."""
        return images + noise.normal(images.shape).double() * self.std


@dataclass(frozen=True)
class ShotNoise:
    """Shot noise: Poisson noise of the number of photons.

    Args:
        photons: expected number of photons of a white pixel.
    """

    identity: ClassVar[str] = "shot_noise/1"
    photons: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Return Poisson(c·x)/c, by inversion of the distribution function for each level."""
        share = (noise.uniform(images.shape).double() + _HALF).flatten().numpy()
        levels = as_levels(images).flatten().numpy()
        counts = np.arange(poisson.isf(_HALF / 2, self.photons) + 1)
        order = levels.argsort(kind="stable")
        counted = np.empty(len(levels))
        for level, indices in zip(*_runs(levels, order), strict=True):
            below = poisson.cdf(counts, self.photons * int(level) / 255)
            counted[indices] = below.searchsorted(share[indices])
        return torch.from_numpy(counted).reshape(images.shape) / self.photons


def _runs(levels: NDArray[np.uint8], order: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
    """The distinct levels, and the indices of each; `order` sorts the indices by level."""
    distinct, starts = np.unique(levels[order], return_index=True)
    return distinct, np.split(order, starts[1:]) if len(distinct) else []


@dataclass(frozen=True)
class ImpulseNoise:
    """Impulse noise: salt and pepper, in each channel independently.

    Args:
        share: share of the values that become 0 or 1, with equal probability.
    """

    identity: ClassVar[str] = "impulse_noise/1"
    share: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Replace some values by 0 or 1."""
        hit = noise.uniform(images.shape, draw=0) < self.share
        salt = noise.uniform(images.shape, draw=1) < 0.5
        return torch.where(hit, salt.double(), images)
