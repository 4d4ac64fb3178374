"""Noise of a sensor: Gaussian, shot and impulse noise."""

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

_HALF = 2.0**-25  # of the step between two uniform numbers: they are the middles of equal cells, never 0


@dataclass(frozen=True)
class GaussianNoise:
    """Each channel of each pixel gets normal noise: low light.

    Args:
        std: of the noise, in [0, 1] pixel units.
    """

    identity: ClassVar[str] = "gaussian_noise/1"
    std: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """x + σ·normal."""
        return images + noise.normal(images.shape).double() * self.std


@dataclass(frozen=True)
class ShotNoise:
    """Light comes in photons.

    Args:
        photons: that a white pixel sends.
    """

    identity: ClassVar[str] = "shot_noise/1"
    photons: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Poisson(c·x)/c, by inversion of the distribution function of every level."""
        share = (noise.uniform(images.shape).double() + _HALF).flatten().numpy()
        levels = as_levels(images).flatten().numpy()
        counts, alike = np.arange(poisson.isf(_HALF / 2, self.photons) + 1), levels.argsort(kind="stable")
        counted = np.empty(len(levels))
        for level, places in zip(*_runs(levels, alike), strict=True):
            below = poisson.cdf(counts, self.photons * int(level) / 255)
            counted[places] = below.searchsorted(share[places])
        return torch.from_numpy(counted).reshape(images.shape) / self.photons


def _runs(levels: NDArray[np.uint8], order: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
    """The levels there are, and the places of each; `order` sorts the places by level."""
    found, starts = np.unique(levels[order], return_index=True)
    return found, np.split(order, starts[1:]) if len(found) else []


@dataclass(frozen=True)
class ImpulseNoise:
    """Bit errors: salt and pepper, in each channel by itself.

    Args:
        share: of the values that become 0 or 1, with equal chances.
    """

    identity: ClassVar[str] = "impulse_noise/1"
    share: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Some values replaced."""
        hit = noise.uniform(images.shape, draw=0) < self.share
        salt = noise.uniform(images.shape, draw=1) < 0.5
        return torch.where(hit, salt.double(), images)
