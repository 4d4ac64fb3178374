"""Bilinear samples of images at any positions, exact at the centres of pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def framed(images: Tensor) -> Tensor:
    """`[N, C, H, W]` images in a black frame one pixel wide."""
    return F.pad(images, (1, 1, 1, 1))


def bilinear(frame: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The images sampled at positions, `[N, C, H, W]`; black beyond the frame.

    Args:
        frame: `[N, C, H + 2, W + 2]`, from `framed`.
        x: to the right of the first pixel's centre, in pixels, `[N, C or 1, H, W]`.
        y: below it.
    """
    channels, height, width = frame.shape[1], frame.shape[2] - 2, frame.shape[3] - 2
    left, right = _between(x, width)
    upper, lower = _between(y, height)
    corner = ((upper + 1) * (width + 2) + left + 1).long().expand(-1, channels, -1, -1).flatten(2)
    flat = frame.flatten(2)

    def neighbours(offset: int) -> Tensor:
        return flat.gather(2, corner + offset).reshape(len(frame), channels, *x.shape[2:])

    top = neighbours(0).lerp(neighbours(1), right)
    bottom = neighbours(width + 2).lerp(neighbours(width + 3), right)
    return top.lerp(bottom, lower)


def pixels(count: int, like: Tensor) -> Tensor:
    """0, 1, … count − 1."""
    return torch.arange(count, dtype=like.dtype, device=like.device)


def _between(position: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The pixel before a position, −1 … count − 1, and the fraction of the position towards the next pixel."""
    position = position.clamp(-1, count)
    before = position.detach().floor().clamp(max=count - 1)
    return before, position - before
