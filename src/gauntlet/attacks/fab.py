"""The fast adaptive boundary attack: a search for the nearest misclassified image.

Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020, §3.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from gauntlet.attacks.hyperplanes import mover, onto_hyperplane
from gauntlet.attacks.search import Search
from gauntlet.attacks.state import SearchState
from gauntlet.goals import Objective, RankedTargets, Untargeted
from gauntlet.losses import LogitDifference, Margin
from gauntlet.threats import Region
from gauntlet.threats.l2 import per_image
from gauntlet.varied import STEPS

_REFINEMENTS = 3  # of the nearest point, at the end: §3.3
_BEYOND = 1.001  # factor past the zero of the interpolated gain: on the boundary itself the goal is not reached


class Nearest(NamedTuple):
    """The smallest change found that reaches the goal, for each example."""

    params: Tensor
    """δ, `[n, …]`."""
    size: Tensor
    """Its norm in pixel units, `[n]`; infinite where there is none."""
    gain: Tensor
    """The gain there, `[n]`."""


class Segment(NamedTuple):
    """The segment from x to a point that reaches the goal, and the part of it that contains the boundary."""

    end: Tensor
    """δ, `[n, …]`."""
    low: Tensor
    """A share of the segment at which the goal is not reached, `[n]` …"""
    low_gain: Tensor
    """… and the gain there."""
    high: Tensor
    """A share at which the goal is reached, `[n]` …"""
    high_gain: Tensor
    """… and the gain there."""


@dataclass(frozen=True, kw_only=True)
class FAB(Search):
    """Projections onto the linearised boundary, biased towards x, and steps back towards x from beyond it.

    Costs `steps`·(2F + B) + 5F per target, and 1F to rank them. With the best iterate an example stops at its first
    success inside the bound; with the last iterate the smallest change is returned, at most the bound.

    Args:
        threat_model: `Linf`, `L2` or `L1`.
        goal: has gain 0 on the boundary: the logit difference of each of the likeliest other classes to the label, or
            the margin.
        iterate: which of the points seen is returned.
        restarts: number of tries; the first starts at x, the others in the ball of half the bound.
        steps: N_iter.
        pull: α_max, the largest weight of the step from x against the step from the current point.
        overshoot: η, factor of a step past the boundary.
        backward: β, factor on the change once the goal is reached.
    """

    identity: ClassVar[str] = "fab/1"
    goal: Objective = field(default_factory=lambda: RankedTargets(LogitDifference()))
    steps: int = field(default=100, metadata=STEPS)
    pull: float = 0.1
    overshoot: float = 1.05
    backward: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        mover(self.threat_model)
        if not isinstance(self.goal, Untargeted | RankedTargets) or not isinstance(
            self.goal.loss, LogitDifference | Margin
        ):
            raise TypeError(
                f"FAB was given {self.goal}: expected a gain that is 0 on the boundary,"
                f" RankedTargets(LogitDifference()) or Untargeted(Margin())"
            )
        if self.steps < 1 or not 0 <= self.pull <= 1 or not self.overshoot >= 1 or not 0 < self.backward < 1:
            raise ValueError(
                f"FAB of {self.steps} steps, pull {self.pull}, overshoot {self.overshoot}, backward {self.backward}:"
                f" expected steps ≥ 1, pull in [0, 1], overshoot ≥ 1 and backward in (0, 1)"
            )
        if not self.iterate.early_stop and isinstance(self.goal, RankedTargets) and self.goal.targets > 1:
            raise ValueError(
                f"FAB with {type(self.iterate).__name__} returns the smallest change of its last try, not of all"
                f" {self.goal.targets} targets: give it Untargeted(Margin()), or RankedTargets with targets=1"
            )

    def search(self, state: SearchState) -> None:
        """Algorithm 1, then a search along the segment from x to the nearest point."""
        self._start(state)
        for _ in range(self.steps):
            gain, reached = state.evaluate_unbounded()
            gradient = state.gradient(gain)
            _remember(state, gain, reached)
            state.params = self._onto_boundary(state, gain.detach(), gradient)
            state.drop_finished()
            if not len(state):
                return
            with torch.no_grad():
                gain, reached = state.evaluate_unbounded()
            _remember(state, gain, reached)
            state.params = torch.where(per_image(reached, state.params), self.backward, 1) * state.params.detach()
            state.drop_finished()
            if not len(state):
                return
        self._refine(state)

    def _start(self, state: SearchState) -> None:
        """Start from x, or in later restarts from a point in the ball of half the bound, which is in [0, 1], too."""
        params = state.region.zero() if state.restart == 0 else state.params / 2
        none = params.new_full((len(params),), torch.inf)
        state.params, state.buffers = params, Nearest(state.region.zero(), none, none)

    def _onto_boundary(self, state: SearchState, gain: Tensor, gradient: Tensor) -> Tensor:
        """Equation 9: step past the linearised boundary, from the current point and with some weight from x."""
        delta, images = state.params.detach(), state.region.images
        move = mover(self.threat_model)
        from_params = onto_hyperplane(images + delta, gradient, -gain, move)
        from_x = onto_hyperplane(images, gradient, (gradient * delta).flatten(1).sum(1) - gain, move)
        norms = [_norm(state.region, step).clamp(min=1e-8) for step in (from_params, from_x)]
        pull = per_image((norms[0] / (norms[0] + norms[1])).clamp(max=self.pull), delta)
        moved = (1 - pull) * (delta + self.overshoot * from_params) + pull * self.overshoot * from_x
        return (images + moved).clamp(0, 1) - images

    @torch.no_grad()
    def _refine(self, state: SearchState) -> None:
        """Search between x and the nearest point: repeatedly step to the zero of the interpolated gain (§3.3)."""
        nearest = Nearest(*state.buffers)
        state.params = state.region.zero()
        gain, _ = state.evaluate_unbounded()
        state.buffers = Segment(nearest.params, torch.zeros_like(gain), gain, torch.ones_like(gain), nearest.gain)
        for _ in range(_REFINEMENTS):
            state.drop_finished()
            if not len(state):
                return
            segment = Segment(*state.buffers)
            crossing = (segment.low_gain / (segment.low_gain - segment.high_gain)).nan_to_num(1.0)
            share = segment.low + (segment.high - segment.low) * (_BEYOND * crossing).clamp(0, 1)
            state.params = per_image(share, segment.end) * segment.end
            gain, reached = state.evaluate_unbounded()
            state.buffers = segment._replace(
                low=torch.where(reached, segment.low, share),
                low_gain=torch.where(reached, segment.low_gain, gain),
                high=torch.where(reached, share, segment.high),
                high_gain=torch.where(reached, gain, segment.high_gain),
            )
        state.drop_finished()
        segment = Segment(*state.buffers)
        change = per_image(segment.high, segment.end) * segment.end
        inside = per_image(state.region.size(change) <= 1, change)
        state.params = torch.where(inside, change, state.region.project(change))


def _remember(state: SearchState, gain: Tensor, reached: Tensor) -> None:
    """Remember the params where the goal is reached nearer to x than before."""
    nearest = Nearest(*state.buffers)
    params = state.params.detach()
    size = _norm(state.region, params)
    nearer = reached & (size < nearest.size)
    state.buffers = Nearest(
        torch.where(per_image(nearer, params), params, nearest.params),
        torch.where(nearer, size, nearest.size),
        torch.where(nearer, gain.detach(), nearest.gain),
    )


def _norm(region: Region, params: Tensor) -> Tensor:
    """The norm of a change in pixel units, `[n]`, whatever the bound."""
    return replace(region, bound=1.0).size(params)
