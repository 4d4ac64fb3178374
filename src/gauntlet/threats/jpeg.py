"""Adversarial JPEG: changes of the coefficients of a JPEG file by a share of their quantisation steps.

Kang et al., "Transfer of adversarial robustness between perturbation types", 2019 (JPEG-L∞ of UAR); the transform is
that of ITU-T T.81 with the tables of its annex K, at the file format's full-range BT.601 colours and 4:2:0 chroma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.scopes import exact
from gauntlet.threats.colour import Triple, mixed
from gauntlet.threats.cube import CubeRegion
from gauntlet.threats.dct import dct, inverse_dct, padded, to_blocks, to_planes
from gauntlet.threats.parts import clamp_straight_through

_EDGE = 1e-6  # rounding error of the transform in float32

LUMA_STEPS = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
"""Table K.1, row by row: the quantisation steps of Y in 1/255."""
CHROMA_STEPS = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
"""Table K.2: those of Cb and Cr."""
TO_YCBCR: tuple[Triple, ...] = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
"""From RGB, before Cb and Cr are shifted by 128."""
TO_RGB: tuple[Triple, ...] = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
"""The inverse."""


def _steps(luma: int, chroma: int, like: Tensor) -> Tensor:
    """The quantisation steps of some blocks of Y, then of Cb and Cr, `[blocks, 64]`."""
    tables = torch.tensor((LUMA_STEPS, CHROMA_STEPS)).to(like)
    return tables.repeat_interleave(torch.tensor((luma, chroma), device=like.device), 0)


def encode(images: Tensor) -> Tensor:
    """The coefficients of a JPEG file in quantisation steps, not rounded, `[N, blocks, 64]`: Y, then Cb, then Cr.

    Args:
        images: `[N, 1 or 3, H, W]` in [0, 1], of any size: the last row and column are repeated to whole blocks
            (8×8 of gray, 16×16 of colour), as encoders do.
    """
    levels = 255 * padded(images, 8 if images.shape[1] == 1 else 16)
    if images.shape[1] == 1:
        luma, chroma = levels - 128, levels[:, :0]
    else:
        levels = mixed(levels, TO_YCBCR)
        luma, chroma = levels[:, :1] - 128, F.avg_pool2d(levels[:, 1:], 2)
    parts = to_blocks(luma), to_blocks(chroma)
    return dct(torch.cat(parts, 1)) / _steps(parts[0].shape[1], parts[1].shape[1], images)


def decode(coefficients: Tensor, channels: int, height: int, width: int) -> Tensor:
    """The images of `[N, blocks, 64]` coefficients, clamped to [0, 1], `[N, channels, height, width]`.

    A pixel outside [0, 1] by more than rounding has no gradient; one that is black or white up to rounding keeps it.
    """
    unit = 8 if channels == 1 else 16
    tall, wide = height + -height % unit, width + -width % unit
    luma = tall * wide // 64
    steps = _steps(luma, coefficients.shape[1] - luma, coefficients)
    blocks = inverse_dct(coefficients * steps)
    levels = to_planes(blocks[:, :luma], tall, wide) + 128
    if channels == 3:
        halves = to_planes(blocks[:, luma:], tall // 2, wide // 2)
        whole = halves[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).reshape(len(blocks), 2, tall, wide)
        levels = mixed(torch.cat((levels, whole), 1), TO_RGB)
    images = levels[:, :, :height, :width] / 255
    clamped = images.clamp(0, 1)
    at_end = (images - clamped).abs() <= _EDGE
    return torch.where(at_end, clamp_straight_through(images), clamped)


@dataclass(frozen=True)
class AdversarialJPEG:
    """All images whose JPEG coefficients are at most bound/2 quantisation steps from those of x.

    Nothing is rounded. The zero image of a gray x is x; of a colour x it is x with the colour of every 2×2 pixels
    averaged (4:2:0), which differs from x in general. x belongs to T(x) in any case.

    Args:
        bound: largest |v|; a coefficient moves by v/2 quantisation steps of the annex-K tables (quality 50). 0.25 on
            CIFAR-10, 0.5 on ImageNet in Laidlaw et al. 2021's code.
    """

    identity: ClassVar[str] = "jpeg/1"
    bound: float
    name: ClassVar[str] = "jpeg"
    unit: ClassVar[str] = "half quantisation steps"

    def __post_init__(self) -> None:
        if not 0 <= self.bound < math.inf:
            raise ValueError(
                f"JPEG bound {self.bound} is not a number ≥ 0: write twice the quantisation steps that a coefficient"
                f" may move, such as 0.25"
            )

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> JPEGRegion:
        """The set around each image, gray or RGB. The classifier is not used."""
        images = batch.images
        if images.shape[1] not in (1, 3):
            raise ValueError(
                f"images of {images.shape[1]} channels cannot be JPEG-encoded: expected 1 (gray) or 3 (RGB)"
            )
        with exact():
            return JPEGRegion(images, self.bound, encode(images))


@dataclass(frozen=True)
class JPEGRegion(CubeRegion):
    """The sets around one batch. The params are v, `[N, blocks, 64]`."""

    coefficients: Tensor
    """The coefficients of x in quantisation steps, `[N, blocks, 64]`."""

    def zero(self) -> Tensor:
        """v = 0."""
        return torch.zeros_like(self.coefficients)

    def start(self, noise: Noise) -> Tensor:
        """Uniform and independent for every coefficient."""
        return noise.uniform(self.coefficients.shape, -self.bound, self.bound).to(self.coefficients)

    def perturb(self, params: Tensor) -> Tensor:
        """The decoded image of the moved coefficients, in full precision under autocast too."""
        with exact():
            return decode(self.coefficients + params / 2, *self.images.shape[1:])
