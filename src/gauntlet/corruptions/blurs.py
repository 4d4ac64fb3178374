"""Blur operations: defocus, frosted glass, motion and zoom."""

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
    """Defocus: every point becomes a disk with a soft edge.

    Args:
        radius: radius of the disk, in pixels.
        softness: standard deviation of the Gaussian that blurs the disk, in pixels.
    """

    identity: ClassVar[str] = "defocus_blur/1"
    radius: float
    softness: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Correlate each channel with the disk."""
        return correlated(images, disk(self.radius, self.softness))


def disk(radius: float, softness: float) -> NDArray[np.float64]:
    """Return the kernel. Reflection at its border adds up to 1.3 % of mass to large disks, as published."""
    reach = 8 if radius <= 8 else int(radius)
    grid = np.arange(-reach, reach + 1)
    inside = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float64)
    half = 1 if radius <= 8 else 2
    taps = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * softness**2))
    for axis in (0, 1):
        inside = correlate1d(inside, taps / taps.sum(), axis=axis, mode="mirror")
    return np.asarray(inside / (grid[:, None] ** 2 + grid**2 <= radius**2).sum())


@dataclass(frozen=True)
class GlassBlur:
    """Frosted glass: pixels take the values of neighbours, between two Gaussian blurs.

    Args:
        std: standard deviation of the blurs, in pixels.
        reach: largest distance a pixel moves, in pixels.
        passes: number of passes over the image.
    """

    identity: ClassVar[str] = "glass_blur/1"
    std: float
    reach: int
    passes: int

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Blur, shuffle, blur."""
        blurred = as_levels(gaussian(images, self.std, "nearest", 4)).double() / 255
        channels, height, width = images.shape[1:]
        source = glass_sources(height, width, self.reach, self.passes, noise).T[:, None].expand(-1, channels, -1)
        shuffled = blurred.flatten(2).gather(2, source).reshape(images.shape)
        return gaussian(shuffled, self.std, "nearest", 4)


def glass_sources(height: int, width: int, reach: int, passes: int, noise: Noise) -> Tensor:
    """Return the source of each pixel, `[H·W, N]` flat indices.

    From the last row and column on, each pixel takes the value that a neighbour has by then; the neighbour keeps it
    (as the published images show, although a swap was intended). The first `reach` + 1 rows and columns stay.
    """
    count = len(noise.seeds)
    source = np.repeat(np.arange(height * width)[:, None], count, 1)
    examples = np.arange(count)
    for number in range(passes):
        for row in range(height - reach, reach, -1):
            columns = np.arange(width - reach, reach, -1)
            drawn = noise.uniform((count, len(columns), 2), draw=number * height + row)
            right, down = ((drawn * (2 * reach)).long() - reach).numpy().transpose(2, 1, 0)
            nearby = (row + down) * width + columns[:, None] + right
            for column, neighbour in zip(columns, nearby, strict=True):
                source[row * width + column] = source[neighbour, examples]
    return torch.from_numpy(source)


@dataclass(frozen=True)
class MotionBlur:
    """Motion blur in a direction within 45° of the horizontal.

    Args:
        radius: radius of the kernel, in pixels.
        std: standard deviation of the kernel, in pixels.
    """

    identity: ClassVar[str] = "motion_blur/1"
    radius: int
    std: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Blur along a line."""
        return motion_blurred(images, self.radius, self.std, noise.uniform((len(images),), -45, 45))


@dataclass(frozen=True)
class ZoomBlur:
    """Zoom blur: the mean of the image and of enlarged copies.

    Args:
        stop: upper end of the factors, which start at 1; rounding may include the end itself, as published.
        step: difference of two factors.
    """

    identity: ClassVar[str] = "zoom_blur/1"
    stop: float
    step: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Return the mean. The plain image counts twice: by itself and enlarged by 1."""
        factors = np.arange(1, self.stop, self.step)
        total = images
        for factor in factors:
            total = total + zoomed(images, float(factor))
        return total / (len(factors) + 1)
