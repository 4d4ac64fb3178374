"""Snow of ImageNet-UA: layers of flakes, each blurred along a line, in front of a whitened image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.ball import BallRegion
from gauntlet.threats.colour import clamp_inclusive
from gauntlet.threats.correlation import correlated
from gauntlet.threats.drawn import DrawnRegion
from gauntlet.threats.imagenet_ua.settings import check_bound, check_channels, check_counts, check_shares, luma
from gauntlet.threats.sampling import pixels

_KERNELS, _FLAKES = 0, 1  # streams of the material
_WHITEN, _WHITEST = 1.5, 0.5  # a whitened pixel is at least 1.5 · luma + 0.5
_BLUR_STD = (10.0, 15.0)


@dataclass(frozen=True)
class UASnow:
    """All images whitened and behind snow, the L2 norm of the flakes' intensities within the bound.

    The snow is the sum over layers of the flakes to a power, correlated with the layer's line. Positions of flakes and
    lines are drawn for each search of each example and are no variables. The zero image is whitened, without snow.

    Args:
        bound: largest L2 norm of the flakes' intensities.
        flake: side of a layer's kernel in pixels, odd: 3 at 32 × 32, 15 at 224 × 224.
        grid: one pixel in grid² of a layer has a flake: 10 or 15.
        blur: side of the window that blurs a line, odd: 1 (no blur) or 3.
        layers: number of layers.
        init: a search starts at exp(−u / init), u uniform in [0, 1], scaled into the ball.
        whitening: share of the whitened image.
        power: of the intensities.
    """

    identity: ClassVar[str] = "ua_snow/1"
    bound: float
    flake: int
    grid: int
    blur: int
    layers: int = 5
    init: float = 5.0
    whitening: float = 0.15
    power: int = 4
    name: ClassVar[str] = "ua_snow"
    unit: ClassVar[str] = "L2 of flakes"

    def __post_init__(self) -> None:
        name = "ImageNet-UA's snow"
        check_bound(name, self.bound, "4")
        check_counts(name, {"grid": self.grid, "layers": self.layers, "init": self.init, "power": self.power})
        check_shares(name, {"whitening": self.whitening})
        if self.flake < 3 or self.flake % 2 == 0 or self.blur % 2 == 0:
            raise ValueError(
                f"{name} of flakes of {self.flake} and a blur of {self.blur} pixels: expected odd numbers, a flake of"
                f" at least 3"
            )

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UASnowRegion:
        """The snow on each image, gray or RGB. The classifier is not used."""
        images = batch.images
        check_channels("ImageNet-UA's snow", images)
        white = torch.maximum(images, _WHITEN * luma(images) + _WHITEST)
        return UASnowRegion(images, self.bound, images.lerp(white, self.whitening), self)


@dataclass(frozen=True)
class UASnowRegion(DrawnRegion, BallRegion):
    """The snow on one batch. The variables are the intensities of `[layers, H, W]`, flat."""

    flat_at_zero: ClassVar[bool] = True
    whitened: Tensor
    """`[N, C, H, W]`, the images without snow."""
    settings: UASnow

    @property
    def num_variables(self) -> int:
        """An intensity for every pixel of every layer."""
        return self.settings.layers * math.prod(self.images.shape[2:])

    def first(self, noise: Noise, drawn: Sequence[Noise]) -> Tensor:
        """exp(−u / init), scaled into the ball before all but the flakes are removed, as published."""
        intensities = (-noise.uniform((len(self.images), self.num_variables)) / self.settings.init).exp()
        return self.free(BallRegion.project(self, intensities), drawn)

    def free(self, variables: Tensor, drawn: Sequence[Noise]) -> Tensor:
        """The intensities of the flakes, 0 elsewhere."""
        chosen = drawn[0].stream(_FLAKES).uniform(variables.shape) < self.settings.grid**-2
        return variables * chosen.to(variables)

    def render(self, variables: Tensor, drawn: Sequence[Noise]) -> Tensor:
        """The whitened images behind the snow."""
        count, _, height, width = self.images.shape
        layers, flake = self.settings.layers, self.settings.flake
        flakes = self.free(variables, drawn) ** self.settings.power
        lines = kernels(drawn[0].stream(_KERNELS), layers, flake, self.settings.blur).to(variables)
        each = correlated(flakes.reshape(count * layers, 1, height, width), lines.reshape(-1, 1, flake, flake))
        snow = each.reshape(count, layers, height, width).sum(1, keepdim=True)
        return clamp_inclusive(self.whitened + snow, 0, 1)


def kernels(noise: Noise, layers: int, side: int, blur: int) -> Tensor:
    """The lines along which flakes are blurred, `[N, layers, side, side]`.

    A line goes from the centre to a pixel of the lower right quadrant, and its mirror image to the upper left; in half
    of the examples all are mirrored to the other diagonal.
    """
    count, middle = len(noise.seeds), side // 2
    ends = noise.uniform((count, layers, 2, 1, 1)) * (side - 1 - middle)
    down, right = (ends.floor() + 1).unbind(2)
    choice = noise.uniform((count, layers, 1, 1), draw=1)
    thickness = torch.where(choice < 0.6, 1.0, torch.where(choice < 0.9, 3.0, 5.0))
    lines = _line(down, right, thickness, middle)
    lines[:, :, : middle + 1, : middle + 1] = lines[:, :, middle:, middle:].flip(2, 3).clone()
    mirrored = noise.uniform((count, 1, 1, 1), draw=2) < 0.5
    lines = torch.where(mirrored, lines.flip(3), lines)
    return _blurred(lines, noise.uniform((count, 1, 1, 1), *_BLUR_STD, draw=3), blur)


def _line(down: Tensor, right: Tensor, thickness: Tensor, middle: int) -> Tensor:
    """An anti-aliased line from the centre to (down, right), with a trapezoid as its profile."""
    offset = pixels(2 * middle + 1, down) - middle
    row, column = offset[:, None], offset[None]
    steep = down > right
    along, across = torch.where(steep, row, column), torch.where(steep, column, row)
    length = torch.maximum(down, right)
    slope = torch.minimum(down, right) / length
    half = thickness * (1 + slope).sqrt() / 4
    profile = (1 + half - (across - slope * along).abs()).clamp(0, 1)
    return torch.where((along >= 0) & (along <= length), profile, 0)


def _blurred(lines: Tensor, std: Tensor, window: int) -> Tensor:
    """The lines after a Gaussian blur of `[N, 1, 1, 1]` standard deviations; 0 beyond the kernel."""
    offset = pixels(window, lines) - window // 2
    weights = (-(offset.square() + offset[:, None].square()) / (2 * std.square())).exp()
    weights = weights / weights.sum((2, 3), keepdim=True)
    return correlated(lines, weights)
