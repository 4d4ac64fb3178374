"""Blur: out of focus, through frosted glass, of a moving camera, of one that zooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from torch import Tensor

from gauntlet.corruptions.operation import as_levels
from gauntlet.corruptions.sampling import correlated, gaussian, motion_blurred, zoomed
from gauntlet.noise import Noise


@dataclass(frozen=True)
class DefocusBlur:
    """Out of focus: every point becomes a disk with a soft edge.

    Args:
        radius: of the disk, in pixels.
        softness: standard deviation of the Gaussian that the disk itself is blurred with.
    """

    identity: ClassVar[str] = "defocus_blur/1"
    radius: float
    softness: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Each channel with the disk."""
        return correlated(images, disk(self.radius, self.softness))


def disk(radius: float, softness: float) -> NDArray[np.float64]:
    """The kernel. Reflection at the border of its array adds mass to large disks, up to 1.3 %, as published."""
    reach = 8 if radius <= 8 else int(radius)
    grid = np.arange(-reach, reach + 1)
    inside = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float64)
    taps = np.exp(-(np.arange(-(half := 1 if radius <= 8 else 2), half + 1) ** 2) / (2 * softness**2))
    for axis in (0, 1):
        inside = correlate1d(inside, taps / taps.sum(), axis=axis, mode="mirror")
    return np.asarray(inside / (grid[:, None] ** 2 + grid**2 <= radius**2).sum())


@dataclass(frozen=True)
class GlassBlur:
    """Frosted glass: pixels are taken from nearby, between two Gaussian blurs.

    Args:
        std: of the blurs, in pixels.
        reach: how far a pixel may come from, in pixels.
        passes: how often.
    """

    identity: ClassVar[str] = "glass_blur/1"
    std: float
    reach: int
    passes: int

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Blur, take from nearby, blur."""
        blurred = as_levels(gaussian(images, self.std, "nearest", 4)).double() / 255
        channels, height, width = images.shape[1:]
        source = glass_sources(height, width, self.reach, self.passes, noise).T[:, None].expand(-1, channels, -1)
        shuffled = blurred.flatten(2).gather(2, source).reshape(images.shape)
        return gaussian(shuffled, self.std, "nearest", 4)


def glass_sources(height: int, width: int, reach: int, passes: int, noise: Noise) -> Tensor:
    """`[H·W, N]`: where the pixel at each place was before.

    From the last row and column on, each pixel in turn takes what a neighbour has by then; the neighbour keeps it
    (which the published images show, although a swap was meant). The first `reach` + 1 rows and columns stay.
    """
    count = len(noise.seeds)
    where = np.repeat(np.arange(height * width)[:, None], count, 1)
    everyone = np.arange(count)
    for turn in range(passes):
        for row in range(height - reach, reach, -1):
            columns = np.arange(width - reach, reach, -1)
            drawn = noise.uniform((count, len(columns), 2), draw=turn * height + row)
            right, down = ((drawn * (2 * reach)).long() - reach).numpy().transpose(2, 1, 0)
            nearby = (row + down) * width + columns[:, None] + right
            for column, place in zip(columns, nearby, strict=True):
                where[row * width + column] = where[place, everyone]
    return torch.from_numpy(where)


@dataclass(frozen=True)
class MotionBlur:
    """A moving camera, in a direction within 45° of the horizontal.

    Args:
        radius: of the kernel, in pixels.
        std: of the kernel.
    """

    identity: ClassVar[str] = "motion_blur/1"
    radius: int
    std: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Along a line."""
        return motion_blurred(images, self.radius, self.std, noise.uniform((len(images),), -45, 45))


@dataclass(frozen=True)
class ZoomBlur:
    """A camera that zooms in: the mean of the image and of itself enlarged.

    Args:
        stop: where the factors end, from 1 on; in floating point the end itself may be one of them, as published.
        step: between two factors.
    """

    identity: ClassVar[str] = "zoom_blur/1"
    stop: float
    step: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """The mean; the plain image counts twice, by itself and as enlarged by 1."""
        factors = np.arange(1, self.stop, self.step)
        total = images
        for factor in factors:
            total = total + zoomed(images, float(factor))
        return total / (len(factors) + 1)
