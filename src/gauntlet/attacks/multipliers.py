"""The search for λ, the price of leaving the ball, example by example: what one climb teaches the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

State = tuple[Tensor, ...]


class Multipliers(Protocol):
    """λ for n examples, and what is remembered of the climbs before: `[n]` each, λ first."""

    def begin(self, like: Tensor) -> State:
        """For the first climb; `like` is `[n, …]`."""

    def after(self, state: State, outside: Tensor) -> State:
        """For the next climb, given who ended the last one outside, `[n]`."""


@dataclass(frozen=True)
class Tenfold:
    """λ grows where a climb ended outside and never shrinks: 0.01, 0.1, 1, 10, 100 (Laidlaw et al. 2021, LPA).

    Args:
        first: λ of the first climb.
        growth: what it is multiplied by.
    """

    identity: ClassVar[str] = "tenfold/1"
    first: float = 0.01
    growth: float = 10.0

    def __post_init__(self) -> None:
        _check(self.first, self.growth)

    def begin(self, like: Tensor) -> State:
        """λ alone."""
        return (like.new_full((len(like),), self.first),)

    def after(self, state: State, outside: Tensor) -> State:
        """As in `Multipliers`."""
        (multiplier,) = state
        return (torch.where(outside, self.growth * multiplier, multiplier),)


@dataclass(frozen=True)
class Bracketed:
    """λ grows until a climb ends inside, then halves its bracket in the logarithm (Carlini and Wagner 2017, §V).

    A λ much too large makes a climb that heeds the surface alone; the best one is the least that ends inside.

    Args:
        first: λ of the first climb.
        growth: what it is multiplied by, or divided by where all climbs ended inside.
    """

    identity: ClassVar[str] = "bracketed/1"
    first: float = 0.1
    growth: float = 10.0

    def __post_init__(self) -> None:
        _check(self.first, self.growth)

    def begin(self, like: Tensor) -> State:
        """λ, the largest that ended outside, the smallest that ended inside."""
        multiplier = like.new_full((len(like),), self.first)
        return multiplier, torch.zeros_like(multiplier), torch.full_like(multiplier, torch.inf)

    def after(self, state: State, outside: Tensor) -> State:
        """As in `Multipliers`."""
        multiplier, low, high = state
        low, high = torch.where(outside, multiplier, low), torch.where(outside, high, multiplier)
        between = torch.where(low > 0, (low * high).sqrt(), high / self.growth)
        return torch.where(high.isinf(), self.growth * multiplier, between), low, high


def _check(first: float, growth: float) -> None:
    if not first > 0 or not growth > 1:
        raise ValueError(f"multipliers from {first} by {growth}: expected a first > 0 and a growth > 1, as 0.01 and 10")
