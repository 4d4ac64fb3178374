"""Auto-PGD for the L1 ball: sparse steps, whose sparsity adapts to that of the best point.

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

_MIN_STEP_SIZE = 0.1  # as a share of the radius
_STEP_DECAY = 1.5  # divisor of the step size
_SETTLED = 0.95  # share of the support that a settled best point has at least kept


class SparseAscent(NamedTuple):
    """The per-example state of the algorithm, `[n, …]` each."""

    gradient: Tensor
    """The gradient at the params."""
    best: Tensor
    """The best params of this stage …"""
    best_gradient: Tensor
    """… the gradient there …"""
    best_gain: Tensor
    """… and the gain, `[n]`."""
    step_size: Tensor
    """Of the next step, as a share of the radius, `[n]`."""
    density: Tensor
    """Share of the pixels that the next step changes, `[n]`."""
    support: Tensor
    """Number of pixels changed by the best point at the last checkpoint, `[n]`."""


@dataclass(frozen=True, kw_only=True)
class SparseAPGD(Search):
    """APGD in the L1 ball, first in balls wider than the bound, then in the bound's own.

    It is stronger than `APGD` on networks and weaker on a linear classifier: there `APGD` reaches the optimum, and this
    stops at 91 to 100 % of it, as its authors' package does, with ten times the steps, too. A step changes two thirds
    of the pixels that the best point changed, all by the same amount: once those reach the end of [0, 1], the rest of
    the budget is not moved to others. AutoAttack's FAB covers these cases: together they break a linear classifier
    wherever it can be broken.

    Costs `steps`·(F + B), 2(F + B) where stages begin and 1F; with `RankedTargets` that for every target,
    and 1F to rank them.

    Args:
        threat_model: an `L1` ball.
        goal: the objective; as in `APGD`.
        iterate: which of the points seen is returned.
        restarts: tries from random starts.
        steps: N_iter, over all stages.
        radii: of the stages, as multiples of the bound; a stage starts at the best point of the previous one. The last
            is 1.
        shares: of the steps, one per radius.
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
                f"SparseAPGD searches an L1 ball, {type(self.threat_model).__name__} is not one: use APGD for it"
            )
        if self.steps < 1:
            raise ValueError(f"SparseAPGD of {self.steps} steps: expected at least 1")
        if len(self.radii) != len(self.shares) or not self.radii or self.radii[-1] != 1 or min(self.radii) < 1:
            raise ValueError(
                f"radii {list(self.radii)} with shares {list(self.shares)}: expected equally many, radii ≥ 1 and"
                f" the last radius 1, such as [3, 2, 1] and [0.3, 0.3, 0.4]"
            )
        if min(self.shares) < 0 or not math.isclose(sum(self.shares), 1):
            raise ValueError(f"shares {list(self.shares)} of the steps: expected numbers ≥ 0 that add up to 1")

    def search(self, state: SearchState) -> None:
        """One stage per radius."""
        state.params = _ball(state, self.radii[0]).start(state.noise)
        remaining = self.steps
        for stage, radius in enumerate(self.radii):
            last = stage == len(self.radii) - 1
            steps = remaining if last else int(self.shares[stage] * self.steps)
            remaining -= steps
            state.buffers = ()
            if steps:
                self._run_stage(state, radius, steps, last)
            if not len(state):
                return

    def _run_stage(self, state: SearchState, radius: float, steps: int, last: bool) -> None:
        """Run a stage from the projected params; the next stage or the iterate evaluates the final point."""
        interval = max(int(0.04 * steps), 1)
        state.params = _ball(state, radius).project(state.params.detach())
        for i in range(steps):
            self._evaluate(state, radius)
            if i and i % interval == 0:
                self._check(state)
            state.drop_finished()
            if not len(state):
                return
            self._step(state, radius)
        if not last:
            self._evaluate(state, radius)
            state.drop_finished()
            state.params = SparseAscent(*state.buffers).best

    def _evaluate(self, state: SearchState, radius: float) -> None:
        gain, _ = state.evaluate() if radius == 1 else state.evaluate_unbounded()
        gradient = state.gradient(gain)
        params, gain = state.params.detach(), gain.detach()
        if not state.buffers:
            support = _support(params)
            step_size = torch.ones_like(gain)
            state.buffers = SparseAscent(
                gradient, params, gradient, gain, step_size, _density(support, params), support
            )
            return
        ascent = SparseAscent(*state.buffers)
        better = gain > ascent.best_gain
        state.buffers = ascent._replace(
            gradient=gradient,
            best=torch.where(per_image(better, params), params, ascent.best),
            best_gradient=torch.where(per_image(better, params), gradient, ascent.best_gradient),
            best_gain=torch.where(better, gain, ascent.best_gain),
        )

    def _check(self, state: SearchState) -> None:
        """While the best point still becomes sparser, restart from it with long steps; then shorten them (§3.3)."""
        ascent, params = SparseAscent(*state.buffers), state.params.detach()
        support = _support(ascent.best)
        sparser = support < _SETTLED * ascent.support
        restored = per_image(sparser, params)
        state.params = torch.where(restored, ascent.best, params)
        state.buffers = ascent._replace(
            gradient=torch.where(restored, ascent.best_gradient, ascent.gradient),
            step_size=torch.where(sparser, 1.0, (ascent.step_size / _STEP_DECAY).clamp(min=_MIN_STEP_SIZE)),
            density=_density(support, params),
            support=support,
        )

    def _step(self, state: SearchState, radius: float) -> None:
        """Change the pixels of largest gradient by the same amount, which adds up to the step size."""
        ascent, params = SparseAscent(*state.buffers), state.params.detach()
        magnitude = ascent.gradient.abs().flatten(1)
        features = magnitude.shape[1]
        rank = ((1 - ascent.density) * features).clamp(0, features - 1).long()
        threshold = magnitude.sort(1).values.gather(1, rank[:, None])
        direction = torch.where(magnitude >= threshold, ascent.gradient.flatten(1).sign(), 0)
        direction = direction / direction.abs().sum(1, keepdim=True).clamp(min=1)
        length = ascent.step_size * radius * state.region.bound
        change = (per_image(length, direction) * direction).reshape(params.shape)
        state.params = _ball(state, radius).project(params + change)


def _support(params: Tensor) -> Tensor:
    """The number of changed pixels, `[n]`."""
    return (params != 0).flatten(1).sum(1).to(params.dtype)


def _density(support: Tensor, params: Tensor) -> Tensor:
    """The share of pixels to change: two thirds of the support, `[n]`."""
    return support / (1.5 * max(1, params[:1].numel()))


def _ball(state: SearchState, radius: float) -> Region:
    """The ball of `radius` times the bound around the active examples."""
    return replace(state.region, bound=radius * state.region.bound)
