"""Resampling and blurring of images; every output is a fixed sum of a few inputs, independent of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import pad

Border = Callable[[Tensor, int], Tensor]
"""Maps any integer coordinate to one in [0, size)."""


def clamped(index: Tensor, size: int) -> Tensor:
    """Repeat the edge pixel: aaa|abcd|ddd."""
    return index.clamp(0, size - 1)


def mirrored(index: Tensor, size: int) -> Tensor:
    """Reflect at the edge pixel, which is not repeated: dcb|abcd|cba (OpenCV's reflect-101)."""
    period = max(1, 2 * size - 2)
    index = index.remainder(period)
    return torch.where(index < size, index, period - index)


def reflected(index: Tensor, size: int) -> Tensor:
    """Reflect at the edge, so that its pixel is repeated: cba|abcd|dcb (scipy's reflect)."""
    index = index.remainder(2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels `[N, C, H', W']` at integer `rows` and `columns`, `[N, H', W']`, inside the images."""
    index = (rows * images.shape[3] + columns).flatten(1)
    values = images.flatten(2).gather(2, index[:, None].expand(-1, images.shape[1], -1))
    return values.reshape(*images.shape[:2], *rows.shape[1:])


def bilinear(images: Tensor, rows: Tensor, columns: Tensor, border: Border) -> Tensor:
    """Interpolate the images bilinearly at `[N, H', W']` rows and columns; returns `[N, C, H', W']`."""
    height, width = images.shape[2:]
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    y = [border(top.long() + i, height) for i in (0, 1)]
    x = [border(left.long() + i, width) for i in (0, 1)]
    upper = pixels(images, y[0], x[0]) * (1 - right) + pixels(images, y[0], x[1]) * right
    lower = pixels(images, y[1], x[0]) * (1 - right) + pixels(images, y[1], x[1]) * right
    return upper * (1 - down) + lower * down


def correlated(images: Tensor, kernel: NDArray[np.float64]) -> Tensor:
    """Correlate each channel with a kernel of odd sides, reflected at the edge pixel."""
    reach = int(np.abs(np.argwhere(kernel) - len(kernel) // 2).max())
    height, width = images.shape[2:]
    wide = pad(images, (reach,) * 4, mode="reflect") if reach else images
    total = torch.zeros_like(images)
    shift = len(kernel) // 2 - reach
    for i, j in np.argwhere(kernel):
        row, column = i - shift, j - shift
        total = total + float(kernel[i, j]) * wide[:, :, row : row + height, column : column + width]
    return total


def gaussian(images: Tensor, std: float, mode: str, truncate: float) -> Tensor:
    """Blur along the last two axes; `mode` and `truncate` (in stds) are scipy's."""
    stds = [0.0] * (images.ndim - 2) + [std, std]
    return torch.from_numpy(gaussian_filter(images.numpy(), stds, mode=mode, truncate=truncate))


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Enlarge the middle of each image to the image's size, linearly, as scipy's `zoom` of order 1 does.

    The middle is ⌈side/factor⌉ pixels. Its corners stay corners, and what exceeds the image is cut off on all sides.
    """
    for axis in (2, 3):
        images = _zoomed(images, factor, axis)
    return images


def _zoomed(images: Tensor, factor: float, axis: int) -> Tensor:
    side = images.shape[axis]
    middle = math.ceil(side / factor)
    large = round(middle * factor)
    start, offset = (side - middle) // 2, (large - side) // 2
    position = (torch.arange(side, dtype=torch.float64) + offset) * ((middle - 1) / max(1, large - 1))
    low = position.floor().clamp(max=max(0, middle - 2))
    share = (position - low).reshape(-1, *([1] * (3 - axis)))
    lower = images.index_select(axis, low.long() + start)
    upper = images.index_select(axis, (low.long() + 1).clamp(max=middle - 1) + start)
    return lower * (1 - share) + upper * share


def motion_blurred(images: Tensor, radius: int, std: float, degrees: Tensor) -> Tensor:
    """Blur each image along a line in its own direction, as ImageMagick does: the line extends to one side only.

    Tap i of 2·radius + 1 has weight exp(−i²/2σ²) and is the pixel nearest to i steps along the line. The edge pixel is
    repeated.

    Args:
        images: `[N, C, H, W]`, whole 255ths.
        radius: radius of the kernel, in pixels.
        std: standard deviation σ of the kernel, in pixels.
        degrees: `[N]`, clockwise from the right.

    Returns:
        Whole 255ths.
    """
    height, width = images.shape[2:]
    taps = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * std**2))
    rows = torch.arange(height).reshape(1, height, 1).expand(len(images), height, width)
    columns = torch.arange(width).reshape(1, 1, width).expand(len(images), height, width)
    cos, sin = (wave(degrees.double() * (math.pi / 180))[:, None, None] for wave in (torch.cos, torch.sin))
    total = torch.zeros_like(images)
    for i, weight in enumerate(taps / taps.sum()):
        down, right = (i * sin - 0.5).ceil().long(), (i * cos - 0.5).ceil().long()
        total = total + float(weight) * pixels(images, clamped(rows + down, height), clamped(columns + right, width))
    return (total * 255).round() / 255
