"""Of the digital picture: contrast, elastic deformation, pixels, JPEG."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gauntlet.corruptions.operation import as_levels
from gauntlet.corruptions.sampling import bilinear, gaussian, mirrored, reflected
from gauntlet.noise import Noise


@dataclass(frozen=True)
class Contrast:
    """Everything moves toward the mean of its channel.

    Args:
        factor: of the distance from it that is left.
    """

    identity: ClassVar[str] = "contrast/1"
    factor: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """(x − μ)·c + μ. The sum behind μ is of whole numbers, so that no order of summation tells."""
        total = as_levels(images).long().sum((2, 3), keepdim=True).double()
        mean = total / (255 * images.shape[2] * images.shape[3])
        return (images - mean) * self.factor + mean


@dataclass(frozen=True)
class ElasticTransform:
    """A small random affine map, then a smooth random displacement of every pixel.

    Args:
        strength: α, what the smoothed displacements are multiplied with, in pixels.
        smoothness: σ of the Gaussian that smooths them, in pixels.
        jitter: how far each of the three points of the affine map may move either way, in pixels.
    """

    identity: ClassVar[str] = "elastic_transform/1"
    strength: float
    smoothness: float
    jitter: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Affine map, then displacement."""
        count, _, height, width = images.shape
        rows, columns = torch.meshgrid(*(torch.arange(side).double() for side in (height, width)), indexing="ij")
        moves = noise.uniform((count, 3, 2), -self.jitter, self.jitter).double()
        y, x = sources(moves, rows, columns)
        images = bilinear(images, y, x, mirrored)
        if not self.strength:
            return images
        fields = (noise.uniform((count, height, width), -1, 1, draw=draw).double() for draw in (1, 2))
        right, down = (gaussian(field, self.smoothness, "reflect", 3) * self.strength for field in fields)
        return bilinear(images, rows + down, columns + right, reflected)


def sources(moves: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns `[N, H, W]` that an affine map takes its pixels from.

    The map takes three points, a third of the shorter side around the centre, to where they move.

    Args:
        moves: `[N, 3, 2]` of the points, in pixels; columns first, as OpenCV has them.
        rows: `[H, W]`, of every pixel.
        columns: the same.
    """
    height, width = rows.shape
    third = min(height, width) // 3
    centre = torch.tensor([height // 2, width // 2], dtype=torch.float64)
    points = centre + third * torch.tensor([[1, 1], [1, -1], [-1, -1]], dtype=torch.float64)
    targets = points + moves
    side = targets[:, 1:] - targets[:, :1]  # the map back: target 0 plus a multiple of each side to point 0 and so on
    determinant = side[:, 0, 0] * side[:, 1, 1] - side[:, 0, 1] * side[:, 1, 0]
    x, y = (plane[None] - targets[:, 0, i, None, None] for i, plane in enumerate((columns, rows)))
    part = [value[:, None, None] for value in (*side.flatten(1).unbind(1), determinant)]
    first = (x * part[3] - y * part[2]) / part[4]
    second = (y * part[0] - x * part[1]) / part[4]
    back = points[1:] - points[0]
    return tuple(points[0, i] + first * back[0, i] + second * back[1, i] for i in (1, 0))  # type: ignore[return-value]


@dataclass(frozen=True)
class Pixelate:
    """Shrunk and enlarged again, both by the mean of what lies under a pixel.

    Args:
        scale: of the small picture's sides.
    """

    identity: ClassVar[str] = "pixelate/1"
    scale: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """With Pillow's box filter."""

        def squared(picture: Image.Image) -> Image.Image:
            width, height = (max(1, int(side * self.scale)) for side in picture.size)
            return picture.resize((width, height), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BOX)

        return each_picture(images, squared)


@dataclass(frozen=True)
class JPEGCompression:
    """Saved as JPEG with Pillow's tables, 4:2:0.

    Args:
        quality: from 1 to 95.
    """

    identity: ClassVar[str] = "jpeg_compression/1"
    quality: int

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Saved and opened."""

        def saved(picture: Image.Image) -> Image.Image:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=self.quality)
            return Image.open(buffer)

        return each_picture(images, saved)


def each_picture(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Every image as a picture of Pillow's through a function, as whole 255ths."""
    changed = torch.empty(images.shape, dtype=torch.uint8)
    for place, image in enumerate(as_levels(images)):
        flat = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        found = torch.from_numpy(np.array(change(Image.fromarray(flat.contiguous().numpy()))))
        changed[place] = found[None] if found.ndim == 2 else found.permute(2, 0, 1)
    return changed.double() / 255
