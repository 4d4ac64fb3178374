"""Random changes that the Square attack proposes: flat squares under L∞, pyramids under L2 and L1.

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
    """Where a random search begins, and what it tries next. All params are δ, `[n, C, H, W]`, inside the region."""

    def first(self, region: Region, noise: Noise) -> Tensor:
        """The first δ."""

    def next(self, region: Region, params: Tensor, share: float, noise: Noise, draw: int) -> Tensor:
        """The best δ so far with a window of about a `share` of the image changed."""


def proposals(threat_model: ThreatModel) -> Proposals:
    """The proposals for a threat model's own norm.

    Raises:
        TypeError: it is none of the three.
    """
    match threat_model:
        case Linf():
            return FlatSquares()
        case L2():
            return Pyramids(norm=2, steepness=2)
        case L1():
            return Pyramids(norm=1, steepness=4, fill=3.0)
    raise TypeError(f"Square searches Linf, L2 and L1, {type(threat_model).__name__} is none of them: use PGD for it")


@dataclass(frozen=True)
class FlatSquares:
    """A square in which every channel goes to one of the ends of the L∞ ball (algorithm 2)."""

    def first(self, region: Region, noise: Noise) -> Tensor:
        """Vertical stripes, a pixel wide, at the ends of the ball."""
        n, channels, _height, width = region.images.shape
        stripes = region.bound * _signs(noise.uniform((n, channels, 1, width)))
        return region.project(stripes.to(region.images).expand_as(region.images))

    def next(self, region: Region, params: Tensor, share: float, noise: Noise, draw: int) -> Tensor:
        """One square by the ball's whole width, cut off at its end."""
        n, channels, height, width = params.shape
        side = min(max(round((share * height * width) ** 0.5), 1), height, width)
        numbers = noise.uniform((n, 2 + channels), draw=draw)
        change = 2 * region.bound * _signs(numbers[:, 2:]).to(params)
        return region.project(params + change[:, :, None, None] * _window(numbers[:, :2], side, height, width))


@dataclass(frozen=True)
class Pyramids:
    """A window of two opposite pyramids, into which the length of another window is moved (algorithm 3).

    Args:
        norm: p, 1 or 2.
        steepness: ring k of a pyramid, counted from its top, adds (k + 1)^-steepness to all inside it.
        fill: how many times the length that is free is put into the window; what is too much, the projection takes
            from all pixels alike. Under L1 that makes the change sparser: three times in the authors' package, on
            colour images.
    """

    norm: int
    steepness: int
    fill: float = 1.0

    def first(self, region: Region, noise: Noise) -> Tensor:
        """A grid of windows, about five by five, with signs of their own."""
        n, channels, height, width = region.images.shape
        side = max(1, min(height, width) // 5)
        rows, columns = height // side, width // side
        top, left = (height - side * rows) // 2, (width - side * columns) // 2
        signs = _signs(noise.uniform((n, channels, rows, columns))).to(region.images)
        turned = noise.uniform((n, 1, rows, columns), draw=1) < 0.5
        shape = self._shape(side, side).to(region.images)
        wide, high = (part.repeat(rows, columns) for part in (shape, shape.T))
        turned, signs = (t.repeat_interleave(side, 2).repeat_interleave(side, 3) for t in (turned, signs))
        delta = torch.zeros_like(region.images)
        delta[..., top : top + side * rows, left : left + side * columns] = torch.where(turned, high, wide) * signs
        length = self._length(delta, (1, 2, 3))
        return region.project(delta * (region.bound / length.clamp(min=1e-10)).clamp(min=1))

    def next(self, region: Region, params: Tensor, share: float, noise: Noise, draw: int) -> Tensor:
        """Window 1 gets a new pyramid on top of what it has, and all the length there was in it and in window 2."""
        n, channels, height, width = params.shape
        side = min(max(round((share * height * width) ** 0.5), 3) // 2 * 2 + 1, height, width)
        numbers = noise.uniform((n, 5 + channels), draw=draw)
        here, there = (_window(numbers[:, i : i + 2], side, height, width) for i in (0, 2))
        signs = _signs(numbers[:, 5:]).to(params)[:, :, None, None]
        pyramid = self._placed(numbers, side, height, width).to(params) * signs
        old = params * here
        new = (pyramid + old / self._length(old, (2, 3)).clamp(min=1e-10)) * here
        both, p = here | there, self.norm
        spare = (region.bound**p - self._length(params, (1, 2, 3)) ** p).clamp(min=0) / channels
        length = (spare + self._length(params * both, (2, 3)) ** p) ** (1 / p)
        return region.project(params * ~both + new / self._length(new, (2, 3)).clamp(min=1e-10) * length * self.fill)

    def _length(self, delta: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.linalg.vector_norm(delta, self.norm, dim=dims, keepdim=True)

    def _placed(self, numbers: Tensor, side: int, height: int, width: int) -> Tensor:
        """The two pyramids in window 1, side by side or one above the other, `[n, 1, H, W]`; nonsense outside it."""
        shape = self._shape(side, side).to(numbers.device)
        shapes = torch.stack((shape, shape.T))
        rows = (torch.arange(height, device=numbers.device) - _corner(numbers[:, 0], side, height)).clamp(0, side - 1)
        columns = (torch.arange(width, device=numbers.device) - _corner(numbers[:, 1], side, width)).clamp(0, side - 1)
        turned = (numbers[:, 4] < 0.5).long()
        return shapes[turned[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]

    def _shape(self, height: int, width: int) -> Tensor:
        """A pyramid above its opposite, `[height, width]`, of length 1."""
        shape = torch.cat((self._pyramid(height // 2, width), -self._pyramid(height - height // 2, width)))
        return shape / torch.linalg.vector_norm(shape, self.norm)

    def _pyramid(self, height: int, width: int) -> Tensor:
        """Rings around the middle, `[height, width]`, of length 1: each adds to all that lies inside it."""
        rows = (torch.arange(height, dtype=torch.float64) - height // 2).abs()
        columns = (torch.arange(width, dtype=torch.float64) - width // 2).abs()
        rings = (torch.arange(max(height // 2, width // 2) + 1, dtype=torch.float64) + 1) ** -self.steepness
        heights = rings.flip(0).cumsum(0).flip(0)  # of a pixel in ring k: the sum over k and all wider ones
        pyramid = heights[torch.maximum(rows[:, None], columns[None, :]).long()]
        return pyramid / torch.linalg.vector_norm(pyramid, self.norm).clamp(min=1e-10)


def _signs(numbers: Tensor) -> Tensor:
    """±1 from numbers in [0, 1)."""
    return torch.where(numbers < 0.5, -1.0, 1.0)


def _corner(numbers: Tensor, side: int, size: int) -> Tensor:
    """Where a window begins, `[n, 1]`: uniform over all places, from numbers in [0, 1)."""
    return (numbers * (size - side + 1)).long().clamp(max=size - side)[:, None]


def _window(numbers: Tensor, side: int, height: int, width: int) -> Tensor:
    """The pixels of a square window, `[n, 1, height, width]` booleans, from `[n, 2]` numbers in [0, 1)."""
    rows = torch.arange(height, device=numbers.device) - _corner(numbers[:, 0], side, height)
    columns = torch.arange(width, device=numbers.device) - _corner(numbers[:, 1], side, width)
    tall, wide = ((ahead >= 0) & (ahead < side) for ahead in (rows, columns))
    return (tall[:, :, None] & wide[:, None, :])[:, None]
