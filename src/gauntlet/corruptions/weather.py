"""Weather operations: snow, fog and brightness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gauntlet.corruptions.operation import as_levels
from gauntlet.corruptions.plasma import plasma
from gauntlet.corruptions.sampling import motion_blurred, zoomed
from gauntlet.noise import Noise


@dataclass(frozen=True)
class Snow:
    """Falling flakes over a whitened picture.

    Args:
        mean, std: mean and standard deviation of the normal noise that flakes are cut from.
        zoom: enlargement of the flakes.
        threshold: values of the noise below it are no flakes.
        radius: radius of the motion blur of the flakes, in pixels.
        blur: standard deviation of the motion blur.
        keep: weight of the picture that is not whitened.
    """

    identity: ClassVar[str] = "snow/1"
    mean: float
    std: float
    zoom: float
    threshold: float
    radius: int
    blur: float
    keep: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Whiten, and add the flakes and a copy of them turned by 180°."""
        count, _, height, width = images.shape
        layer = zoomed(self.mean + noise.normal((count, 1, height, width)).double() * self.std, self.zoom)
        flakes = as_levels(torch.where(layer < self.threshold, 0.0, layer)).double() / 255
        streaks = motion_blurred(flakes, self.radius, self.blur, noise.uniform((count,), -135, -45, draw=1))
        bright = images.maximum(1.5 * grey(images) + 0.5)
        return self.keep * images + (1 - self.keep) * bright + streaks + streaks.flip(2, 3)


@dataclass(frozen=True)
class Fog:
    """A fractal cloud over the picture.

    Args:
        amount: weight of the cloud at its maximum.
        decay: how fast its fine structure fades; larger is smoother.
    """

    identity: ClassVar[str] = "fog/1"
    amount: float
    decay: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Add the cloud, then rescale so that the largest value of the image stays the same."""
        height, width = images.shape[2:]
        side = 1 << (max(height, width) - 1).bit_length()
        cloud = plasma(side, self.decay, noise)[:, None, :height, :width]
        brightest = images.flatten(1).amax(1)[:, None, None, None]
        return (images + self.amount * cloud) * brightest / (brightest + self.amount)


@dataclass(frozen=True)
class Brightness:
    """Brightness: V of HSV is raised, hue and saturation stay the same.

    Args:
        added: amount added to V, in [0, 1] pixel units.
    """

    identity: ClassVar[str] = "brightness/1"
    added: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Scale colours in proportion to V, which keeps hue and saturation; black becomes grey."""
        value = images.amax(1, keepdim=True)
        raised = (value + self.added).clamp(0, 1)
        return torch.where(value > 0, images * (raised / value.clamp(min=1 / 255)), raised)


def grey(images: Tensor) -> Tensor:
    """Return the luma `[N, 1, H, W]` by ITU-R 601; an image of one channel is returned as it is."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
