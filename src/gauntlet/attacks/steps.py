"""Steps from a gradient. Each is `length` long as a share of the bound, in its own geometry."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Protocol

from torch import Tensor

from gauntlet.attacks.state import SearchState
from gauntlet.threats.drawn import DrawnRegion
from gauntlet.threats.l2 import direction

_REDRAWS = -(2**16)  # a stream that no part, restart or goal has


class Step(Protocol):
    """Compute params of higher objective from params and gradient."""

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """The params `[n, …]` after step `index`, counted from 0; they may lie outside the region."""


@dataclass(frozen=True)
class Steepest:
    """Steepest ascent in the region's geometry: the sign under L∞, the gradient's direction under L2."""

    identity: ClassVar[str] = "steepest/1"

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """The region's own step."""
        return state.region.ascend(state.params.detach(), gradient, length)


@dataclass(frozen=True)
class Sign:
    """The sign of the gradient: every number of the params changes by the same amount, in any geometry."""

    identity: ClassVar[str] = "sign/1"

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """A step along the sign of the gradient."""
        return _step_along(state, gradient.sign(), length)


@dataclass(frozen=True)
class Normalised:
    """The gradient at one L2 length for all examples, in any geometry."""

    identity: ClassVar[str] = "normalised/1"

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """A step along the gradient, normalised to unit length."""
        return _step_along(state, direction(gradient), length)


@dataclass(frozen=True)
class Redrawn:
    """Another step, and then a new draw of the region's last material: the waves of `UAGabor`, as published.

    The gradient of one draw is followed into another, so that a search finds what holds for many of them.

    Args:
        step: how a gradient becomes a step.
    """

    identity: ClassVar[str] = "redrawn/1"
    step: Step = field(default_factory=Sign)

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """The step, with another draw for every step of every example."""
        region = state.region
        if not isinstance(region, DrawnRegion):
            raise TypeError(f"{type(region).__name__} has nothing that is drawn: use the step itself, such as Sign")
        return region.redraw(self.step(state, gradient, length, index), state.noise.stream(_REDRAWS).stream(index))


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015) on the params, with learning rate `length`: used by the papers of flows and colours.

    Args:
        beta1: decay of the mean gradient.
        beta2: decay of the mean squared gradient.
        epsilon: added to the root of the latter.
    """

    identity: ClassVar[str] = "adam/1"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if not 0 <= self.beta1 < 1 or not 0 <= self.beta2 < 1 or not self.epsilon > 0:
            raise ValueError(
                f"Adam with decays {self.beta1} and {self.beta2} and an epsilon of {self.epsilon}: expected decays in"
                f" [0, 1) and an epsilon > 0, such as 0.9, 0.999 and 1e-8"
            )

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """Ascend; the buffers are the two means."""
        mean, mean_square = state.buffers or (gradient * 0, gradient * 0)
        mean = self.beta1 * mean + (1 - self.beta1) * gradient
        mean_square = self.beta2 * mean_square + (1 - self.beta2) * gradient**2
        state.buffers = (mean, mean_square)
        unbiased_mean = mean / (1 - self.beta1 ** (index + 1))
        unbiased_mean_square = mean_square / (1 - self.beta2 ** (index + 1))
        return _step_along(state, unbiased_mean / (unbiased_mean_square.sqrt() + self.epsilon), length)


def _step_along(state: SearchState, change: Tensor, length: float) -> Tensor:
    params = state.params.detach()
    return params + length * state.region.extent(params) * change


class Schedule(Protocol):
    """How the length of the steps changes along a search."""

    def __call__(self, index: int, steps: int) -> float:
        """The factor of step `index` of `steps`, counted from 0."""


@dataclass(frozen=True)
class Constant:
    """Steps of equal length."""

    identity: ClassVar[str] = "constant/1"

    def __call__(self, index: int, steps: int) -> float:
        """The factor 1."""
        return 1.0


@dataclass(frozen=True)
class Geometric:
    """From 1 towards `end` by the same factor at every step, as in the Lagrangian attacks of the PAT paper.

    Args:
        end: the factor of the step after the last.
    """

    identity: ClassVar[str] = "geometric/1"
    end: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.end < inf:
            raise ValueError(
                f"a geometric schedule that ends at {self.end}: expected a finite factor above 0, such as 0.1"
            )

    def __call__(self, index: int, steps: int) -> float:
        """`end` to the power of the share of steps done."""
        return self.end ** (index / steps)
