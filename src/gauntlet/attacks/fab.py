"""The fast adaptive boundary attack: not somewhere in the ball, but the nearest image that is taken for another class.

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

_REFINEMENTS = 3  # of what was found, at the end: §3.3
_BEYOND = 1.001  # of the way to where a straight gain is 0: on the boundary itself nothing is won


class Nearest(NamedTuple):
    """The smallest change found that reaches the goal, for each example."""

    params: Tensor
    """δ, `[n, …]`."""
    size: Tensor
    """Its norm in pixel units, `[n]`; infinite where none was found."""
    gain: Tensor
    """There, `[n]`."""


class Segment(NamedTuple):
    """From x to a point that reaches the goal, and the part of it that the boundary still may cross."""

    end: Tensor
    """δ, `[n, …]`."""
    low: Tensor
    """The share of the way at which the goal is not reached, `[n]` …"""
    low_gain: Tensor
    """… and the gain there."""
    high: Tensor
    """The share at which it is, `[n]` …"""
    high_gain: Tensor
    """… and the gain there."""


@dataclass(frozen=True, kw_only=True)
class FAB(Search):
    """Steps onto the boundary as the gradient sees it, drawn towards x, and back towards x from beyond it.

    Costs `steps`·(2F + B) + 5F per target, and 1F to rank them. With the best iterate an example leaves as soon as
    anything inside the bound is found; with the last, the smallest change of all comes back, at most the bound.

    Args:
        threat_model: `Linf`, `L2` or `L1`.
        goal: whose gain is 0 on the boundary: the lead over the label of the likeliest other classes in turn, or the
            margin of whichever leads.
        iterate: which of the points seen comes back.
        restarts: tries; the first starts at x, the others in the ball of half the bound.
        steps: N_iter.
        pull: α_max, the largest weight of the step from x against the one from where the search is.
        overshoot: η, how far beyond the boundary a step goes.
        backward: β, the share of the way from x that is kept once the goal is reached.
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
                f"FAB with {type(self.iterate).__name__} gives back the smallest change of its last try, not of all"
                f" {self.goal.targets} targets: give it Untargeted(Margin()), or RankedTargets with targets=1"
            )

    def search(self, state: SearchState) -> None:
        """Algorithm 1, then a finer look at the segment from x to what it found."""
        self._set_out(state)
        for _ in range(self.steps):
            gain, reached = state.evaluate_unbounded()
            slope = state.gradient(gain)
            _note(state, gain, reached)
            state.params = self._onto_boundary(state, gain.detach(), slope)
            state.drop_finished()
            if not len(state):
                return
            with torch.no_grad():
                gain, reached = state.evaluate_unbounded()
            _note(state, gain, reached)
            state.params = torch.where(per_image(reached, state.params), self.backward, 1) * state.params.detach()
            state.drop_finished()
            if not len(state):
                return
        self._refine(state)

    def _set_out(self, state: SearchState) -> None:
        """From x, or in later restarts from a point in the ball of half the bound, which is in [0, 1] as well."""
        params = state.region.zero() if state.restart == 0 else state.params / 2
        none = params.new_full((len(params),), torch.inf)
        state.params, state.buffers = params, Nearest(state.region.zero(), none, none)

    def _onto_boundary(self, state: SearchState, gain: Tensor, slope: Tensor) -> Tensor:
        """Equation 9: beyond the linear boundary, from where the search is and with some pull from x."""
        delta, images, move = state.params.detach(), state.region.images, mover(self.threat_model)
        here = onto_hyperplane(images + delta, slope, -gain, move)
        from_x = onto_hyperplane(images, slope, (slope * delta).flatten(1).sum(1) - gain, move)
        lengths = [_length(state.region, step).clamp(min=1e-8) for step in (here, from_x)]
        pull = per_image((lengths[0] / (lengths[0] + lengths[1])).clamp(max=self.pull), delta)
        moved = (1 - pull) * (delta + self.overshoot * here) + pull * self.overshoot * from_x
        return (images + moved).clamp(0, 1) - images

    @torch.no_grad()
    def _refine(self, state: SearchState) -> None:
        """Between x and the nearest point found, where a straight gain would be 0, again and again (§3.3)."""
        far = Nearest(*state.buffers)
        state.params = state.region.zero()
        gain, _ = state.evaluate_unbounded()
        state.buffers = Segment(far.params, torch.zeros_like(gain), gain, torch.ones_like(gain), far.gain)
        for _ in range(_REFINEMENTS):
            state.drop_finished()
            if not len(state):
                return
            now = Segment(*state.buffers)
            crossing = (now.low_gain / (now.low_gain - now.high_gain)).nan_to_num(1.0)
            at = now.low + (now.high - now.low) * (_BEYOND * crossing).clamp(0, 1)
            state.params = per_image(at, now.end) * now.end
            gain, reached = state.evaluate_unbounded()
            state.buffers = now._replace(
                low=torch.where(reached, now.low, at),
                low_gain=torch.where(reached, now.low_gain, gain),
                high=torch.where(reached, at, now.high),
                high_gain=torch.where(reached, gain, now.high_gain),
            )
        state.drop_finished()
        now = Segment(*state.buffers)
        found = per_image(now.high, now.end) * now.end
        state.params = torch.where(per_image(state.region.size(found) <= 1, found), found, state.region.project(found))


def _note(state: SearchState, gain: Tensor, reached: Tensor) -> None:
    """Remember the params where the goal is reached nearer to x than ever before."""
    nearest, params = Nearest(*state.buffers), state.params.detach()
    size = _length(state.region, params)
    nearer = reached & (size < nearest.size)
    state.buffers = Nearest(
        torch.where(per_image(nearer, params), params, nearest.params),
        torch.where(nearer, size, nearest.size),
        torch.where(nearer, gain.detach(), nearest.gain),
    )


def _length(region: Region, params: Tensor) -> Tensor:
    """The norm of a change in pixel units, `[n]`, whatever the bound."""
    return replace(region, bound=1.0).size(params)
