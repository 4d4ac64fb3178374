"""Colour spaces of recolouring: RGB, and CIE LUV, in which distances are approximately perceptual.

CIE 15:2004 §8.2.2 for LUV, IEC 61966-2-1 for sRGB with its D65 white. scikit-image converts arrays, without a gradient,
which here stays finite at black, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

Triple = tuple[float, float, float]


class ColourSpace(Protocol):
    """Converts images to colours and back. Bounds are in its unit."""

    @property
    def name(self) -> str:
        """The name in tables."""

    def check(self, channels: int) -> None:
        """Raise ValueError if images of this number of channels cannot be converted."""

    def of(self, images: Tensor) -> Tensor:
        """Images `[N, C, H, W]` in [0, 1] to colours of the same shape, differentiable."""

    def images(self, colours: Tensor) -> Tensor:
        """Colours to images; colours outside the gamut give values outside [0, 1]."""

    def range(self, channels: int) -> tuple[list[float], list[float]]:
        """The least and the greatest value of every channel that an image can have."""


@dataclass(frozen=True)
class RGB:
    """The image's own channels, any number of them."""

    identity: ClassVar[str] = "rgb/1"
    name: ClassVar[str] = "rgb"

    def check(self, channels: int) -> None:
        """Accept any number."""

    def of(self, images: Tensor) -> Tensor:
        """The images."""
        return images

    def images(self, colours: Tensor) -> Tensor:
        """The colours."""
        return colours

    def range(self, channels: int) -> tuple[list[float], list[float]]:
        """[0, 1]."""
        return [0.0] * channels, [1.0] * channels


# sRGB primaries to XYZ; the white is the matrix's own, so that grays have exactly u = v = 0.
_XYZ: list[Triple] = [(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)]
_LINEAR: list[Triple] = torch.tensor(_XYZ, dtype=torch.float64).inverse().tolist()
_WHITE = [sum(row) for row in _XYZ]
_WHITE_U = 4 * _WHITE[0] / (_WHITE[0] + 15 * _WHITE[1] + 3 * _WHITE[2])
_WHITE_V = 9 * _WHITE[1] / (_WHITE[0] + 15 * _WHITE[1] + 3 * _WHITE[2])
# A rectangle that contains the u′ and v′ of every sRGB colour (0.125 … 0.451 and 0.158 … 0.563). XYZ has a pole farther
# out, which dark colours reach by small changes of u and v.
_U_RANGE, _V_RANGE = (0.12, 0.46), (0.15, 0.57)
_KNEE = (6 / 29) ** 3  # the Y below which L is linear
_SLOPE = (29 / 3) ** 3
_DARK = 1e-7  # below it a colour counts as black, and black as gray


@dataclass(frozen=True)
class LUV:
    """CIE LUV of sRGB images, in the unit of Laidlaw and Feizi 2019: (L / 100, (u + 100) / 200, (v + 100) / 200)."""

    identity: ClassVar[str] = "luv/1"
    name: ClassVar[str] = "luv"

    def check(self, channels: int) -> None:
        """Accept 3 channels only."""
        if channels != 3:
            raise ValueError(f"images of {channels} channel(s) have no CIE LUV colours: use the colour space RGB")

    def of(self, images: Tensor) -> Tensor:
        """From sRGB."""
        bright = ((images.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
        x, y, z = mixed(torch.where(images > 0.04045, bright, images / 12.92), _XYZ).unbind(1)
        luma = torch.where(y > _KNEE, 116 * y.clamp(min=_KNEE) ** (1 / 3) - 16, _SLOPE * y)
        total = x + 15 * y + 3 * z
        not_black = total > _DARK
        divisor = total.clamp(min=_DARK)
        u = 13 * luma * (torch.where(not_black, 4 * x / divisor, _WHITE_U) - _WHITE_U)
        v = 13 * luma * (torch.where(not_black, 9 * y / divisor, _WHITE_V) - _WHITE_V)
        return torch.stack((luma / 100, (u + 100) / 200, (v + 100) / 200), 1)

    def images(self, colours: Tensor) -> Tensor:
        """To sRGB. A negative L is black; a chromaticity far from all of sRGB's is the nearest in a rectangle."""
        luma, u, v = colours.unbind(1)
        luma = clamp_inclusive(100 * luma, 0, float("inf"))
        divisor = 13 * luma.clamp(min=_DARK)
        u = ((200 * u - 100) / divisor + _WHITE_U).clamp(*_U_RANGE)
        v = ((200 * v - 100) / divisor + _WHITE_V).clamp(*_V_RANGE)
        y = torch.where(luma > 8, ((luma + 16) / 116) ** 3, luma / _SLOPE)
        x = y * 9 * u / (4 * v)
        z = y * (12 - 3 * u - 20 * v) / (4 * v)
        linear = mixed(torch.stack((x, y, z), 1), _LINEAR)
        bright = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
        return torch.where(linear > 0.0031308, bright, 12.92 * linear)

    def range(self, channels: int) -> tuple[list[float], list[float]]:
        """All of sRGB: L 0 … 100, u −84 … 176, v −135 … 108."""
        return [0.0, 0.08, -0.175], [1.0, 1.38, 1.04]


def clamp_inclusive(values: Tensor, low: float, high: float) -> Tensor:
    """Clamp with a gradient for values exactly at a limit, where `clamp` has none in some releases of torch.

    Black and white pixels are at the limits.
    """
    return torch.where(values < low, low, torch.where(values > high, high, values))


def mixed(planes: Tensor, matrix: Sequence[Triple]) -> Tensor:
    """A 3×3 matrix times every pixel of `[N, 3, H, W]`, without a matrix product: autocast and TF32 would round it."""
    return torch.stack([a * planes[:, 0] + b * planes[:, 1] + c * planes[:, 2] for a, b, c in matrix], 1)
