"""Weather: snow, frost, fog, and bright light."""

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
    """Falling flakes, and a whitened picture.

    Args:
        mean, std: of the normal noise that flakes are cut from.
        zoom: how much they are enlarged.
        threshold: below which there is no flake.
        radius: of the blur that makes streaks of them, in pixels.
        blur: its standard deviation.
        keep: share of the picture that is not whitened.
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
        """Whiten, and add the flakes and the flakes upside down."""
        count, _, height, width = images.shape
        layer = zoomed(self.mean + noise.normal((count, 1, height, width)).double() * self.std, self.zoom)
        flakes = as_levels(torch.where(layer < self.threshold, 0.0, layer)).double() / 255
        fallen = motion_blurred(flakes, self.radius, self.blur, noise.uniform((count,), -135, -45, draw=1))
        bright = images.maximum(1.5 * grey(images) + 0.5)
        return self.keep * images + (1 - self.keep) * bright + fallen + fallen.flip(2, 3)


@dataclass(frozen=True)
class Fog:
    """A fractal cloud in front of everything.

    Args:
        amount: of the cloud where it is thickest.
        decay: of its finer structure; the larger, the smoother.
    """

    identity: ClassVar[str] = "fog/1"
    amount: float
    decay: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Add the cloud, then darken so that the brightest value stays where it was."""
        height, width = images.shape[2:]
        side = 1 << (max(height, width) - 1).bit_length()
        cloud = plasma(side, self.decay, noise)[:, None, :height, :width]
        brightest = images.flatten(1).amax(1)[:, None, None, None]
        return (images + self.amount * cloud) * brightest / (brightest + self.amount)


@dataclass(frozen=True)
class Brightness:
    """More light: the V of HSV is raised, hue and saturation stay.

    Args:
        added: to V, in [0, 1] pixel units.
    """

    identity: ClassVar[str] = "brightness/1"
    added: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Where hue and saturation stay, colours grow in proportion to V; black becomes grey."""
        value = images.amax(1, keepdim=True)
        raised = (value + self.added).clamp(0, 1)
        return torch.where(value > 0, images * (raised / value.clamp(min=1 / 255)), raised)


def grey(images: Tensor) -> Tensor:
    """`[N, 1, H, W]`, ITU-R 601; an image of one channel is its own."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
