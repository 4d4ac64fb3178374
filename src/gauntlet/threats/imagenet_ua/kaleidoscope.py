"""Kaleidoscope of ImageNet-UA: bright shapes with coloured faces and gray edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.colour import clamp_inclusive
from gauntlet.threats.cube import CubeRegion
from gauntlet.threats.drawn import DrawnRegion
from gauntlet.threats.imagenet_ua.settings import check_bound, check_channels, check_counts, check_shares, luma
from gauntlet.threats.sampling import pixels

_KINDS = 3  # disc, triangle, square


@dataclass(frozen=True)
class UAKaleidoscope:
    """All images on which randomly drawn shapes lie, their colours and the gray of their edges within the bound.

    Every shape is a disc, an equilateral triangle or a square with equal probability, at any angle, its centre anywhere
    in the image; colours of overlapping shapes add up. Shapes are drawn for each search of each example and are no
    variables: the zero image has those of draw 0, and a bound of 0 keeps them.

    Args:
        bound: largest change of a channel of a shape's colour, and of a pixel of the edges from black.
        shapes: number of shapes: 5 at 32 × 32, 40 at 224 × 224.
        size: of a shape in pixels, 4 or 15: diameter of a disc, side of a square; a triangle has ⌊1.732 · size⌋.
        transparency: share of x that is left under a shape, 0.2 or 0.1.
        min_value: least value (HSV) of a shape's colour.
        min_saturation: its least saturation.
        edge: side of the square by which shapes grow, odd; what is added is their edge.
    """

    identity: ClassVar[str] = "ua_kaleidoscope/1"
    bound: float
    shapes: int
    size: int
    transparency: float
    min_value: float = 0.8
    min_saturation: float = 0.7
    edge: int = 5
    name: ClassVar[str] = "ua_kaleidoscope"
    unit: ClassVar[str] = "L∞ of colours"

    def __post_init__(self) -> None:
        name = "ImageNet-UA's kaleidoscope"
        check_bound(name, self.bound, "0.1")
        check_counts(name, {"shapes": self.shapes, "size": self.size, "edge": self.edge % 2})
        shares = {"transparency": self.transparency, "min_value": self.min_value, "min_saturation": self.min_saturation}
        check_shares(name, shares)

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UAKaleidoscopeRegion:
        """The set around each image, gray or RGB. The classifier is not used."""
        check_channels("ImageNet-UA's kaleidoscope", batch.images)
        return UAKaleidoscopeRegion(batch.images, self.bound, self)


@dataclass(frozen=True)
class UAKaleidoscopeRegion(DrawnRegion, CubeRegion):
    """The sets around one batch. The variables are `[N, shapes·C + H·W]`: changes of colours, then the edges."""

    settings: UAKaleidoscope

    @property
    def num_variables(self) -> int:
        """A colour for each shape, a number for each pixel."""
        return self.settings.shapes * self.images.shape[1] + math.prod(self.images.shape[2:])

    def first(self, noise: Noise, drawn: Sequence[Noise]) -> Tensor:
        """Changes of colours uniform within the bound, edges uniform between 0 and the bound."""
        colours = self.settings.shapes * self.images.shape[1]
        start = noise.uniform((len(self.images), self.num_variables))
        return self.bound * torch.cat((2 * start[:, :colours] - 1, start[:, colours:]), 1)

    def render(self, variables: Tensor, drawn: Sequence[Noise]) -> Tensor:
        """x under the shapes, with their edges."""
        count, channels, height, width = self.images.shape
        shapes = self.settings.shapes
        changes = variables[:, : shapes * channels].reshape(count, shapes, channels)
        edges = variables[:, shapes * channels :].reshape(count, 1, height, width)
        faces, borders, where = self._shapes(drawn[0])
        colours = self._colours(drawn[0]) + changes
        paint = self._placed(faces[..., None] * colours[:, :, None, None], where)
        covered = self._placed(faces[..., None], where) > 0
        bordered = self._placed(borders[..., None], where) > 0
        painted = self.images * torch.where(covered, self.settings.transparency, 1.0) + paint
        return clamp_inclusive(torch.where(bordered, edges.abs(), painted), 0, 1)

    def _shapes(self, drawn: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Faces and edges in a window around each shape, `[N, shapes, K, K]` of 0 and 1, and the pixels of the windows.

        The pixels are indices into `[N·H·W]`; those beyond the image are 0 in both windows.
        """
        size, edge = self.settings.size, self.settings.edge
        triangle = int(math.sqrt(3) * size)
        reach = math.ceil(max(triangle / math.sqrt(3), size / math.sqrt(2))) + edge // 2 + 1
        count, _, height, width = self.images.shape
        shape = (count, self.settings.shapes, 1, 1)
        middle_y, middle_x = (
            side * drawn.uniform(shape, draw=i).to(self.images) - 0.5 for i, side in enumerate((height, width))
        )
        window = pixels(2 * reach + 1, self.images) - reach
        row, column = middle_y.round() + window[:, None], middle_x.round() + window
        y, x = row - middle_y, column - middle_x
        kind = (_KINDS * drawn.uniform(shape, draw=2)).long()
        angle = 2 * math.pi * drawn.uniform(shape, draw=3).to(self.images)
        disc = torch.hypot(x, y) <= size / 2
        square = torch.maximum(_along(x, y, angle).abs(), _along(x, y, angle + math.pi / 2).abs()) <= size / 2
        sides = [_along(x, y, angle + 2 * math.pi * i / 3) for i in range(3)]
        inside = torch.stack(sides).amax(0) <= triangle / math.sqrt(12)  # the radius of the inner circle
        visible = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        faces = torch.where(kind == 0, disc, torch.where(kind == 1, inside, square)) & visible
        faces, visible = faces.to(self.images), visible.to(self.images)
        borders = (F.max_pool2d(faces, edge, stride=1, padding=edge // 2) - faces) * visible
        example = torch.arange(count, device=faces.device).reshape(-1, 1, 1, 1)
        where = (example * height + row.clamp(0, height - 1).long()) * width + column.clamp(0, width - 1).long()
        return faces, borders, where

    def _placed(self, windows: Tensor, where: Tensor) -> Tensor:
        """The sum over the shapes of `[N, shapes, K, K, C]` windows, `[N, C, H, W]`."""
        count, _, height, width = self.images.shape
        channels = windows.shape[-1]
        image = windows.new_zeros(count * height * width, channels)
        image = image.index_add(0, where.flatten(), windows.reshape(-1, channels))
        return image.reshape(count, height, width, channels).permute(0, 3, 1, 2)

    def _colours(self, drawn: Noise) -> Tensor:
        """The shapes' colours without a change, `[N, shapes, C]`."""
        shape = (len(self.images), self.settings.shapes)
        hue, saturation, value = (
            drawn.uniform(shape, low, 1, draw=4 + i).to(self.images)
            for i, low in enumerate((0.0, self.settings.min_saturation, self.settings.min_value))
        )
        colours = rgb_of_hsv(hue, saturation, value)
        return colours if self.images.shape[1] == 3 else luma(colours.transpose(1, 2)).transpose(1, 2)


def _along(x: Tensor, y: Tensor, angle: Tensor) -> Tensor:
    """The coordinate along a direction."""
    return x * angle.cos() + y * angle.sin()


def rgb_of_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Colours of a hue in [0, 1], a saturation and a value, `[…, 3]`."""
    sector = (6 * hue[..., None] + hue.new_tensor([5.0, 3.0, 1.0])) % 6
    share = torch.minimum(sector, 4 - sector).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * share)
