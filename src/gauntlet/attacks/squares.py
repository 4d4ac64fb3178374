"""Random proposals of the Square attack: flat squares under L∞, pyramids under L2 and L1.

Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search", ECCV 2020,
§3.3 and §3.4; for L1, Croce & Hein, "Mind the box", ICML 2021, §5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gauntlet.noise import Noise
from gauntlet.threats import L1, L2, Linf, Region, ThreatModel


class Proposals(Protocol):
    """The start and the proposals of a random search. All params are δ, `[n, C, H, W]`, inside the region."""

    def first(self, region: Region, noise: Noise) -> Tensor:
        """The first δ."""

    def next(self, region: Region, params: Tensor, share: float, noise: Noise, draw: int) -> Tensor:
        """The best δ so far, `params`, with a changed window of about a `share` of the image."""


def proposals(threat_model: ThreatModel) -> Proposals:
    """The proposals for the norm of a threat model.

    Raises:
        TypeError: the threat model is not L∞, L2 or L1.
    """
    match threat_model:
        case Linf():
            return FlatSquares()
        case L2():
            return Pyramids(norm=2, steepness=2)
        case L1():
            return Pyramids(norm=1, steepness=4, fill=3.0)
    raise TypeError(
        f"Square searches Linf, L2 and L1, {type(threat_model).__name__} is not one of them: use PGD for it"
    )


@dataclass(frozen=True)
class FlatSquares:
    """A square in which every channel moves to one of the ends of the L∞ ball (algorithm 2)."""

    def first(self, region: Region, noise: Noise) -> Tensor:
        """Vertical stripes of one pixel width at the ends of the ball."""
        n, channels, _height, width = region.images.shape
        stripes = region.bound * _signs(noise.uniform((n, channels, 1, width)))
        return region.project(stripes.to(region.images).expand_as(region.images))

    def next(self, region: Region, params: Tensor, share: float, noise: Noise, draw: int) -> Tensor:
        """One square changed by the whole width of the ball, then projected."""
        n, channels, height, width = params.shape
        side = min(max(round((share * height * width) ** 0.5), 1), height, width)
        numbers = noise.uniform((n, 2 + channels), draw=draw)
        change = 2 * region.bound * _signs(numbers[:, 2:]).to(params)
        return region.project(params + change[:, :, None, None] * _window(numbers[:, :2], side, height, width))


@dataclass(frozen=True)
class Pyramids:
    """A window of two opposite pyramids, to which the norm of another window is moved (algorithm 3).

    Args:
        norm: p, 1 or 2.
        steepness: ring k of a pyramid, counted from its top, adds (k + 1)^-steepness to all inside it.
        fill: factor on the norm of the window; the projection removes the excess from all pixels equally. Under L1 that
            makes the change sparser: the authors' package uses 3 on colour images.
    """

    norm: int
    steepness: int
    fill: float = 1.0

    def first(self, region: Region, noise: Noise) -> Tensor:
        """A grid of windows, about five by five, each with its own signs."""
        n, channels, height, width = region.images.shape
        side = max(1, min(height, width) // 5)
        rows, columns = height // side, width // side
        top, left = (height - side * rows) // 2, (width - side * columns) // 2
        signs = _signs(noise.uniform((n, channels, rows, columns))).to(region.images)
        transposed = noise.uniform((n, 1, rows, columns), draw=1) < 0.5
        shape = self._shape(side, side).to(region.images)
        wide, tall = shape.repeat(rows, columns), shape.T.repeat(rows, columns)
        transposed, signs = _per_pixel(transposed, side), _per_pixel(signs, side)
        delta = torch.zeros_like(region.images)
        delta[..., top : top + side * rows, left : left + side * columns] = torch.where(transposed, tall, wide) * signs
        length = self._length(delta, (1, 2, 3))
        return region.project(delta * (region.bound / length.clamp(min=1e-10)).clamp(min=1))

    def next(self, region: Region, params: Tensor, share: float, noise: Noise, draw: int) -> Tensor:
        """Add new pyramids to window 1, and give it the norm of both windows; window 2 becomes 0."""
        n, channels, height, width = params.shape
        side = min(max(round((share * height * width) ** 0.5), 3) // 2 * 2 + 1, height, width)
        numbers = noise.uniform((n, 5 + channels), draw=draw)
        window_1 = _window(numbers[:, 0:2], side, height, width)
        window_2 = _window(numbers[:, 2:4], side, height, width)
        signs = _signs(numbers[:, 5:]).to(params)[:, :, None, None]
        pyramid = self._pyramids_at(numbers, side, height, width).to(params) * signs
        old = params * window_1
        new = (pyramid + old / self._length(old, (2, 3)).clamp(min=1e-10)) * window_1
        both = window_1 | window_2
        p = self.norm
        # The unused part of the bound is divided among the channels.
        spare = (region.bound**p - self._length(params, (1, 2, 3)) ** p).clamp(min=0) / channels
        length = (spare + self._length(params * both, (2, 3)) ** p) ** (1 / p)
        return region.project(params * ~both + new / self._length(new, (2, 3)).clamp(min=1e-10) * length * self.fill)

    def _length(self, delta: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.linalg.vector_norm(delta, self.norm, dim=dims, keepdim=True)

    def _pyramids_at(self, numbers: Tensor, side: int, height: int, width: int) -> Tensor:
        """The two pyramids in window 1, side by side or one above the other, `[n, 1, H, W]`; undefined outside it."""
        shape = self._shape(side, side).to(numbers.device)
        shapes = torch.stack((shape, shape.T))
        rows = (torch.arange(height, device=numbers.device) - _corner(numbers[:, 0], side, height)).clamp(0, side - 1)
        columns = (torch.arange(width, device=numbers.device) - _corner(numbers[:, 1], side, width)).clamp(0, side - 1)
        transposed = (numbers[:, 4] < 0.5).long()
        return shapes[transposed[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]

    def _shape(self, height: int, width: int) -> Tensor:
        """A pyramid above its negative, `[height, width]`, of norm 1."""
        shape = torch.cat((self._pyramid(height // 2, width), -self._pyramid(height - height // 2, width)))
        return shape / torch.linalg.vector_norm(shape, self.norm)

    def _pyramid(self, height: int, width: int) -> Tensor:
        """Rings around the centre, `[height, width]`, of norm 1: each adds to all pixels inside it."""
        rows = (torch.arange(height, dtype=torch.float64) - height // 2).abs()
        columns = (torch.arange(width, dtype=torch.float64) - width // 2).abs()
        rings = (torch.arange(max(height // 2, width // 2) + 1, dtype=torch.float64) + 1) ** -self.steepness
        heights = rings.flip(0).cumsum(0).flip(0)  # at ring k: the sum over ring k and all wider ones
        pyramid = heights[torch.maximum(rows[:, None], columns[None, :]).long()]
        return pyramid / torch.linalg.vector_norm(pyramid, self.norm).clamp(min=1e-10)


def _signs(numbers: Tensor) -> Tensor:
    """±1 from numbers in [0, 1)."""
    return torch.where(numbers < 0.5, -1.0, 1.0)


def _corner(numbers: Tensor, side: int, size: int) -> Tensor:
    """The first row or column of a window, `[n, 1]`, uniform over all positions, from numbers in [0, 1)."""
    return (numbers * (size - side + 1)).long().clamp(max=size - side)[:, None]


def _window(numbers: Tensor, side: int, height: int, width: int) -> Tensor:
    """The pixels of a square window, `[n, 1, height, width]` booleans, from `[n, 2]` numbers in [0, 1)."""
    rows = torch.arange(height, device=numbers.device) - _corner(numbers[:, 0], side, height)
    columns = torch.arange(width, device=numbers.device) - _corner(numbers[:, 1], side, width)
    in_rows = (rows >= 0) & (rows < side)
    in_columns = (columns >= 0) & (columns < side)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]


def _per_pixel(values: Tensor, side: int) -> Tensor:
    """Repeat a value per window, `[n, C, rows, columns]`, for each pixel of the window."""
    return values.repeat_interleave(side, 2).repeat_interleave(side, 3)
