"""How a gradient becomes a step. All steps are `length` shares of the bound long, in one sense or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from gauntlet.attacks.state import SearchState
from gauntlet.threats.l2 import direction


class Step(Protocol):
    """From params and gradient to params further up."""

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """The params `[n, …]` after step `index`, counted from 0; they may lie outside the region."""


@dataclass(frozen=True)
class Steepest:
    """In the region's own geometry: the sign under L∞, the gradient's direction under L2."""

    identity: ClassVar[str] = "steepest/1"

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """Ask the region."""
        return state.region.ascend(state.params.detach(), gradient, length)


@dataclass(frozen=True)
class Sign:
    """Every number of the params by the same amount, whatever the geometry."""

    identity: ClassVar[str] = "sign/1"

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """Along the sign of the gradient."""
        return _moved(state, gradient.sign(), length)


@dataclass(frozen=True)
class Normalised:
    """Along the gradient, one L2 length of the params for all examples, whatever the geometry."""

    identity: ClassVar[str] = "normalised/1"

    def __call__(self, state: SearchState, gradient: Tensor, length: float, index: int) -> Tensor:
        """Along the gradient at unit length."""
        return _moved(state, direction(gradient), length)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015) on the params, its learning rate `length`: the paper's for flows and colours.

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
        """Ascend; the two means travel with the examples."""
        mean, square = state.buffers or (gradient * 0, gradient * 0)
        mean = self.beta1 * mean + (1 - self.beta1) * gradient
        square = self.beta2 * square + (1 - self.beta2) * gradient**2
        state.buffers = (mean, square)
        mean, square = mean / (1 - self.beta1 ** (index + 1)), square / (1 - self.beta2 ** (index + 1))
        return _moved(state, mean / (square.sqrt() + self.epsilon), length)


def _moved(state: SearchState, along: Tensor, length: float) -> Tensor:
    params = state.params.detach()
    return params + length * state.region.extent(params) * along


class Schedule(Protocol):
    """How the length of the steps changes along a search."""

    def __call__(self, index: int, steps: int) -> float:
        """The factor of step `index` of `steps`, counted from 0."""


@dataclass(frozen=True)
class Constant:
    """All steps alike."""

    identity: ClassVar[str] = "constant/1"

    def __call__(self, index: int, steps: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Geometric:
    """From 1 towards `end` by the same factor at every step, as in the Lagrangian attacks of the PAT paper.

    Args:
        end: where the step after the last would be.
    """

    identity: ClassVar[str] = "geometric/1"
    end: float = 0.1

    def __post_init__(self) -> None:
        if not self.end > 0:
            raise ValueError(f"a geometric schedule that ends at {self.end}: expected a factor above 0, such as 0.1")

    def __call__(self, index: int, steps: int) -> float:
        """`end` to the share of the way gone."""
        return self.end ** (index / steps)
