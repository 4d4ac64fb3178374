"""Digital operations: contrast, elastic transform, pixelation, JPEG."""

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
    """Less contrast: values move toward the mean of their channel.

    Args:
        factor: remaining share of the distance from the mean.
    """

    identity: ClassVar[str] = "contrast/1"
    factor: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Return (x − μ)·c + μ. The sum for μ is of integers, so that it does not depend on the order of summation."""
        total = as_levels(images).long().sum((2, 3), keepdim=True).double()
        mean = total / (255 * images.shape[2] * images.shape[3])
        return (images - mean) * self.factor + mean


@dataclass(frozen=True)
class ElasticTransform:
    """A small random affine map, then a smooth random displacement of every pixel.

    Args:
        strength: α, factor of the smoothed displacements, in pixels.
        smoothness: σ of the Gaussian that smooths them, in pixels.
        jitter: largest displacement of each of the three points of the affine map, in pixels.
    """

    identity: ClassVar[str] = "elastic_transform/1"
    strength: float
    smoothness: float
    jitter: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Apply the affine map, then the displacement."""
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
    """Return rows and columns `[N, H, W]` from which an affine map takes its pixels.

    The map takes three points, a third of the shorter side around the centre, to where they move.

    Args:
        moves: `[N, 3, 2]` displacements of the points, in pixels; columns first, as in OpenCV.
        rows: `[H, W]`, row of every pixel.
        columns: `[H, W]`, column of every pixel.
    """
    height, width = rows.shape
    third = min(height, width) // 3
    centre = torch.tensor([height // 2, width // 2], dtype=torch.float64)
    points = centre + third * torch.tensor([[1, 1], [1, -1], [-1, -1]], dtype=torch.float64)
    targets = points + moves
    # The inverse map: target 0 plus multiples of its sides goes to point 0 plus the same multiples of its sides.
    side = targets[:, 1:] - targets[:, :1]
    determinant = side[:, 0, 0] * side[:, 1, 1] - side[:, 0, 1] * side[:, 1, 0]
    x = columns[None] - targets[:, 0, 0, None, None]
    y = rows[None] - targets[:, 0, 1, None, None]
    part = [value[:, None, None] for value in (*side.flatten(1).unbind(1), determinant)]
    first = (x * part[3] - y * part[2]) / part[4]
    second = (y * part[0] - x * part[1]) / part[4]
    back = points[1:] - points[0]
    source_rows = points[0, 1] + first * back[0, 1] + second * back[1, 1]
    source_columns = points[0, 0] + first * back[0, 0] + second * back[1, 0]
    return source_rows, source_columns


@dataclass(frozen=True)
class Pixelate:
    """Pixelation: the picture is shrunk and enlarged again with a box filter.

    Args:
        scale: sides of the small picture relative to the large one.
    """

    identity: ClassVar[str] = "pixelate/1"
    scale: float

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Shrink and enlarge each picture with Pillow."""

        def pixelated(picture: Image.Image) -> Image.Image:
            width, height = (max(1, int(side * self.scale)) for side in picture.size)
            return picture.resize((width, height), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BOX)

        return each_picture(images, pixelated)


@dataclass(frozen=True)
class JPEGCompression:
    """JPEG compression with Pillow's tables, 4:2:0.

    Args:
        quality: quality from 1 to 95.
    """

    identity: ClassVar[str] = "jpeg_compression/1"
    quality: int

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Save and open each picture."""

        def saved(picture: Image.Image) -> Image.Image:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=self.quality)
            return Image.open(buffer)

        return each_picture(images, saved)


def each_picture(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Apply a function to every image as a Pillow picture; returns whole 255ths."""
    changed = torch.empty(images.shape, dtype=torch.uint8)
    for i, image in enumerate(as_levels(images)):
        flat = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        pixels = torch.from_numpy(np.array(change(Image.fromarray(flat.contiguous().numpy()))))
        changed[i] = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return changed.double() / 255
