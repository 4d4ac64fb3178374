"""The discrete cosine transform of 8×8 blocks, as JPEG files have it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def padded(images: Tensor, multiple: int) -> Tensor:
    """The images with their last row and column repeated until both sides are multiples."""
    down, right = -images.shape[2] % multiple, -images.shape[3] % multiple
    images = torch.cat((images, images[:, :, -1:].expand(-1, -1, down, -1)), 2)
    return torch.cat((images, images[..., -1:].expand(-1, -1, -1, right)), 3)


def to_blocks(planes: Tensor) -> Tensor:
    """`[N, C, 8·h, 8·w]` cut into `[N, C·h·w, 64]`."""
    n, c, height, width = planes.shape
    cut = planes.reshape(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
    return cut.reshape(n, c * (height // 8) * (width // 8), 64)


def to_planes(blocks: Tensor, height: int, width: int) -> Tensor:
    """`[N, C·h·w, 64]` put together to `[N, C, height, width]`."""
    channels = blocks.shape[1] * 64 // (height * width)
    cut = blocks.reshape(len(blocks), channels, height // 8, width // 8, 8, 8).transpose(3, 4)
    return cut.reshape(len(blocks), channels, height, width)


def dct(blocks: Tensor) -> Tensor:
    """The DCT-II of `[N, blocks, 64]` blocks, orthonormal."""
    return _times(blocks, _cosines(blocks).T)


def inverse_dct(coefficients: Tensor) -> Tensor:
    """The inverse of `dct`."""
    return _times(coefficients, _cosines(coefficients))


def _cosines(like: Tensor) -> Tensor:
    """The DCT-II of an 8×8 block, both directions at once: an orthonormal `[64, 64]` matrix."""
    k = torch.arange(8, dtype=torch.float64)
    rows = ((2 * k[None] + 1) * k[:, None] * math.pi / 16).cos() / 2
    rows[0] /= math.sqrt(2)
    return torch.kron(rows, rows).to(like)


def _times(blocks: Tensor, matrix: Tensor) -> Tensor:
    """Every block times a matrix: one product per example, so that results do not depend on the batch size."""
    return torch.bmm(blocks, matrix.expand(len(blocks), -1, -1))
