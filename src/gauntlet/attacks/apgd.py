"""Auto-PGD: gradient ascent with momentum and an adaptive step size.

Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", ICML
2020, §3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from gauntlet.attacks.search import Search
from gauntlet.attacks.state import SearchState
from gauntlet.goals import Objective, Untargeted
from gauntlet.losses import CrossEntropy
from gauntlet.threats.l2 import per_image
from gauntlet.varied import STEPS


class Ascent(NamedTuple):
    """The per-example state of the algorithm, `[n, …]` each."""

    previous: Tensor
    """The params of the previous step."""
    gradient: Tensor
    """The gradient at the params."""
    best: Tensor
    """The best params of this try …"""
    best_gradient: Tensor
    """… the gradient there …"""
    best_gain: Tensor
    """… and the gain, `[n]`."""
    gain: Tensor
    """The gain at the params, `[n]`."""
    step_size: Tensor
    """Of the next step, as a share of the bound, `[n]`."""
    increases: Tensor
    """Number of steps since the last checkpoint that raised the gain, `[n]`."""
    checkpoint_gain: Tensor
    """The best gain at the last checkpoint, `[n]`."""
    halved: Tensor
    """Whether the step size was halved there, `[n]`."""


@dataclass(frozen=True, kw_only=True)
class APGD(Search):
    """The step size starts at two bounds; where the gain stops rising it is halved, and the search returns to its best.

    Costs `steps`·(F + B) + 1F; with `RankedTargets` that for every target, and 1F to rank them. `SparseAPGD` is
    stronger in the L1 ball.

    Args:
        threat_model: the images to search.
        goal: the objective; the paper's losses are the cross-entropy and the `DLR`, AutoAttack's with ranked targets.
        iterate: which of the points seen is returned.
        restarts: tries from random starts.
        steps: N_iter.
        momentum: α, the weight of the new step against the last one.
        rising: ρ; the share of steps that must raise the gain between two checkpoints for the step size to stay.
    """

    identity: ClassVar[str] = "apgd/1"
    goal: Objective = field(default_factory=lambda: Untargeted(CrossEntropy()))
    steps: int = field(default=100, metadata=STEPS)
    momentum: float = 0.75
    rising: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or not 0 < self.momentum <= 1 or not 0 <= self.rising <= 1:
            raise ValueError(
                f"APGD of {self.steps} steps, momentum {self.momentum}, rising {self.rising}: expected steps ≥ 1,"
                f" momentum in (0, 1] and rising in [0, 1]"
            )

    def search(self, state: SearchState) -> None:
        """Algorithm 1."""
        intervals = dict(_checkpoints(self.steps))
        state.params = state.region.project(state.params)
        for i in range(self.steps):
            self._evaluate(state, first=i == 0)
            if i in intervals:
                self._check(state, intervals[i])
            state.drop_finished()
            if not len(state):
                return
            self._step(state, 1.0 if i == 0 else self.momentum)

    def _evaluate(self, state: SearchState, first: bool) -> None:
        gain, _ = state.evaluate()
        gradient = state.gradient(gain)
        params, gain = state.params.detach(), gain.detach()
        if first:
            step_size = torch.full_like(gain, 2.0)
            halved = torch.ones_like(gain, dtype=torch.bool)
            ascent = Ascent(
                params, gradient, params, gradient, gain, gain, step_size, torch.zeros_like(gain), gain, halved
            )
        else:
            last = Ascent(*state.buffers)
            better = gain > last.best_gain
            ascent = last._replace(
                gradient=gradient,
                best=torch.where(per_image(better, params), params, last.best),
                best_gradient=torch.where(per_image(better, params), gradient, last.best_gradient),
                best_gain=torch.where(better, gain, last.best_gain),
                gain=gain,
                increases=last.increases + (gain > last.gain),
            )
        state.buffers = ascent

    def _check(self, state: SearchState, interval: int) -> None:
        """Conditions 1 and 2: too few steps raised the gain, or the best gain and the step size did not change."""
        ascent = Ascent(*state.buffers)
        stuck = ascent.increases <= self.rising * interval  # "fewer than" in the paper, ≤ in the authors' package
        stuck |= ~ascent.halved & (ascent.best_gain <= ascent.checkpoint_gain)
        restored = per_image(stuck, ascent.best)
        state.params = torch.where(restored, ascent.best, state.params.detach())
        state.buffers = ascent._replace(
            gradient=torch.where(restored, ascent.best_gradient, ascent.gradient),
            step_size=torch.where(stuck, ascent.step_size / 2, ascent.step_size),
            increases=torch.zeros_like(ascent.increases),
            checkpoint_gain=ascent.best_gain,
            halved=stuck,
        )

    def _step(self, state: SearchState, momentum: float) -> None:
        ascent = Ascent(*state.buffers)
        params, region = state.params.detach(), state.region
        direction = region.ascend(params, ascent.gradient, 1.0) - params
        unaveraged = region.project(params + per_image(ascent.step_size, direction) * direction)
        state.params = region.project(
            params + momentum * (unaveraged - params) + (1 - momentum) * (params - ascent.previous)
        )
        state.buffers = ascent._replace(previous=params)


def _checkpoints(steps: int) -> list[tuple[int, int]]:
    """Iterations after which step sizes are reconsidered, and the number since the previous one (§3.1, in percent)."""
    shares = [0, 22]
    while shares[-1] < 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    points = sorted({-(-share * steps // 100) for share in shares})  # rounded up
    return [(end, end - start) for start, end in pairwise(points) if end < steps]
