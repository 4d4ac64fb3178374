"""Auto-PGD for the L1 ball: sparse steps, as sparse as the best point found turns out to be.

Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML 2021, §3 and §4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from gauntlet.attacks.search import Search
from gauntlet.attacks.state import SearchState
from gauntlet.goals import Objective, Untargeted
from gauntlet.losses import CrossEntropy
from gauntlet.threats import L1, Region
from gauntlet.threats.l2 import per_image
from gauntlet.varied import STEPS

_SHORTEST = 0.1  # step, of the radius
_SHORTENED = 1.5  # how much shorter a step becomes
_STABLE = 0.95  # how much of the support may have gone for the best point to count as settled


class SparseAscent(NamedTuple):
    """What an example takes along on its way, `[n, …]` each."""

    slope: Tensor
    """The gradient at the params."""
    top: Tensor
    """The best params of this stage …"""
    top_slope: Tensor
    """… the gradient there …"""
    top_gain: Tensor
    """… and the gain, `[n]`."""
    length: Tensor
    """Of the next step, in radii, `[n]`."""
    density: Tensor
    """Share of the pixels that the next step moves, `[n]`."""
    support: Tensor
    """How many pixels the best point changed at the last checkpoint, `[n]`."""


@dataclass(frozen=True, kw_only=True)
class SparseAPGD(Search):
    """APGD in the L1 ball, first in wider balls than the bound, then in its own.

    On networks it is the stronger one, on a linear classifier `APGD` is: that reaches the optimum, this comes to rest
    at 91 to 100 % of it, just as its authors' package does, with ten times the steps too. A step moves two thirds of
    the pixels that the best point changed, all by the same amount: once those are at the end of [0, 1], what is left of
    the budget stays where it happens to be. AutoAttack's FAB finds what is missing: together they break a linear
    classifier wherever it can be broken.

    Costs `steps`·(F + B), 2(F + B) where stages begin and 1F; with `RankedTargets` that for every
    target, and 1F to rank them.

    Args:
        threat_model: an `L1` ball.
        goal: what for; as in `APGD`.
        iterate: which of the points seen comes back.
        restarts: tries from random starts.
        steps: N_iter, over all stages.
        radii: of the stages, in bounds, each from where the last one was best; the last is 1.
        shares: of the steps that a stage gets, one per radius.
    """

    identity: ClassVar[str] = "sparse_apgd/1"
    threat_model: L1
    goal: Objective = field(default_factory=lambda: Untargeted(CrossEntropy()))
    steps: int = field(default=100, metadata=STEPS)
    radii: Sequence[float] = (3.0, 2.0, 1.0)
    shares: Sequence[float] = (0.3, 0.3, 0.4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.threat_model, L1):
            raise TypeError(
                f"SparseAPGD searches an L1 ball, {type(self.threat_model).__name__} is none: use APGD for it"
            )
        if self.steps < 1:
            raise ValueError(f"SparseAPGD of {self.steps} steps: expected at least 1")
        if len(self.radii) != len(self.shares) or not self.radii or self.radii[-1] != 1 or min(self.radii) < 1:
            raise ValueError(
                f"radii {list(self.radii)} with shares {list(self.shares)}: expected as many of either, radii ≥ 1 and"
                f" the last of them 1, such as [3, 2, 1] and [0.3, 0.3, 0.4]"
            )
        if min(self.shares) < 0 or not math.isclose(sum(self.shares), 1):
            raise ValueError(f"shares {list(self.shares)} of the steps: expected numbers ≥ 0 that add up to 1")

    def search(self, state: SearchState) -> None:
        """One stage per radius."""
        state.params = _ball(state, self.radii[0]).start(state.noise)
        left = self.steps
        for stage, radius in enumerate(self.radii):
            last = stage == len(self.radii) - 1
            steps = left if last else int(self.shares[stage] * self.steps)
            left -= steps
            state.buffers = ()
            if steps:
                self._climb(state, radius, steps, last)
            if not len(state):
                return

    def _climb(self, state: SearchState, radius: float, steps: int, last: bool) -> None:
        """A stage, from the projection of where the search is; a last look is left to whoever comes next."""
        every = max(int(0.04 * steps), 1)
        state.params = _ball(state, radius).project(state.params.detach())
        for i in range(steps):
            self._look(state, radius)
            if i and i % every == 0:
                self._check(state)
            state.drop_finished()
            if not len(state):
                return
            self._step(state, radius)
        if not last:
            self._look(state, radius)
            state.drop_finished()
            state.params = SparseAscent(*state.buffers).top

    def _look(self, state: SearchState, radius: float) -> None:
        gain, _ = state.evaluate() if radius == 1 else state.evaluate_unbounded()
        slope = state.gradient(gain)
        params, gain = state.params.detach(), gain.detach()
        if not state.buffers:
            support = _support(params)
            density, length = support / (1.5 * max(1, params[:1].numel())), torch.ones_like(gain)
            state.buffers = SparseAscent(slope, params, slope, gain, length, density, support)
            return
        now = SparseAscent(*state.buffers)
        better = gain > now.top_gain
        state.buffers = now._replace(
            slope=slope,
            top=torch.where(per_image(better, params), params, now.top),
            top_slope=torch.where(per_image(better, params), slope, now.top_slope),
            top_gain=torch.where(better, gain, now.top_gain),
        )

    def _check(self, state: SearchState) -> None:
        """While the best point still becomes sparser, long steps from it; shorter ones once it has settled (§3.3)."""
        now, params = SparseAscent(*state.buffers), state.params.detach()
        support = _support(now.top)
        sparser = support < _STABLE * now.support
        back = per_image(sparser, params)
        state.params = torch.where(back, now.top, params)
        state.buffers = now._replace(
            slope=torch.where(back, now.top_slope, now.slope),
            length=torch.where(sparser, 1.0, (now.length / _SHORTENED).clamp(min=_SHORTEST)),
            density=support / (1.5 * max(1, params[:1].numel())),
            support=support,
        )

    def _step(self, state: SearchState, radius: float) -> None:
        """The same change, in sum as long as the step, of the pixels with the steepest slope."""
        now, params = SparseAscent(*state.buffers), state.params.detach()
        steep = now.slope.abs().flatten(1)
        features = steep.shape[1]
        rank = ((1 - now.density) * features).clamp(0, features - 1).long()
        least = steep.sort(1).values.gather(1, rank[:, None])
        way = torch.where(steep >= least, now.slope.flatten(1).sign(), 0)
        way = way / way.abs().sum(1, keepdim=True).clamp(min=1)
        length = now.length * radius * state.region.bound
        ahead = params + (per_image(length, way) * way).reshape(params.shape)
        state.params = _ball(state, radius).project(ahead)


def _support(params: Tensor) -> Tensor:
    """How many pixels are changed, `[n]`."""
    return (params != 0).flatten(1).sum(1).to(params.dtype)


def _ball(state: SearchState, radius: float) -> Region:
    """The ball of so many bounds around those who stand."""
    return replace(state.region, bound=radius * state.region.bound)
