"""Per-example search for λ, the weight of the penalty outside the ball, over successive ascents."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Protocol

import torch
from torch import Tensor

State = tuple[Tensor, ...]


class Multipliers(Protocol):
    """Schedules of λ for n examples. A state holds λ first, then the memory of earlier ascents, `[n]` each."""

    def begin(self, like: Tensor) -> State:
        """The state of the first ascent; `like` is `[n, …]`."""

    def after(self, state: State, outside: Tensor) -> State:
        """The state of the next ascent, given which examples ended the last one outside, `[n]`."""


@dataclass(frozen=True)
class Tenfold:
    """λ grows where an ascent ended outside and never shrinks: 0.01, 0.1, 1, 10, 100 (Laidlaw et al. 2021, LPA).

    Args:
        first: λ of the first ascent.
        growth: factor by which λ grows.
    """

    identity: ClassVar[str] = "tenfold/1"
    first: float = 0.01
    growth: float = 10.0

    def __post_init__(self) -> None:
        _check(self.first, self.growth)

    def begin(self, like: Tensor) -> State:
        """A state of λ only."""
        return (like.new_full((len(like),), self.first),)

    def after(self, state: State, outside: Tensor) -> State:
        """As in `Multipliers`."""
        (multiplier,) = state
        return (torch.where(outside, self.growth * multiplier, multiplier),)


@dataclass(frozen=True)
class Bracketed:
    """λ grows until an ascent ends inside, then its bracket is halved on a log scale (Carlini and Wagner 2017, §V).

    With a much too large λ the penalty outweighs the gain; the best λ is the smallest whose ascent ends inside.

    Args:
        first: λ of the first ascent.
        growth: factor by which λ grows, or shrinks where all ascents ended inside.
    """

    identity: ClassVar[str] = "bracketed/1"
    first: float = 0.1
    growth: float = 10.0

    def __post_init__(self) -> None:
        _check(self.first, self.growth)

    def begin(self, like: Tensor) -> State:
        """A state of λ, the largest λ that ended outside, and the smallest that ended inside."""
        multiplier = like.new_full((len(like),), self.first)
        return multiplier, torch.zeros_like(multiplier), torch.full_like(multiplier, torch.inf)

    def after(self, state: State, outside: Tensor) -> State:
        """As in `Multipliers`."""
        multiplier, low, high = state
        low = torch.where(outside, multiplier, low)
        high = torch.where(outside, high, multiplier)
        between = torch.where(low > 0, (low * high).sqrt(), high / self.growth)
        return torch.where(high.isinf(), self.growth * multiplier, between), low, high


def _check(first: float, growth: float) -> None:
    if not 0 < first < inf or not 1 < growth < inf:
        raise ValueError(
            f"multipliers from {first} by {growth}: expected finite first > 0 and growth > 1, such as 0.01 and 10"
        )
