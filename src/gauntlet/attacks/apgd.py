"""Auto-PGD: gradient ascent with momentum whose steps shorten by themselves.

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
    """What an example takes along on its way, `[n, …]` each."""

    before: Tensor
    """The params one step ago."""
    slope: Tensor
    """The gradient at the params."""
    top: Tensor
    """The best params of this try …"""
    top_slope: Tensor
    """… the gradient there …"""
    top_gain: Tensor
    """… and the gain, `[n]`."""
    gain: Tensor
    """The gain at the params, `[n]`."""
    length: Tensor
    """Of the next step, in bounds, `[n]`."""
    rises: Tensor
    """Steps since the last checkpoint that went up, `[n]`."""
    mark: Tensor
    """The best gain at the last checkpoint, `[n]`."""
    halved: Tensor
    """Whether the steps were shortened there, `[n]`."""


@dataclass(frozen=True, kw_only=True)
class APGD(Search):
    """Steps of two bounds at first, halved for each example that has stopped rising, which goes back to its best.

    Costs `steps`·(F + B) + 1F; with `RankedTargets` that for every target, and 1F to rank them. In the L1 ball
    `SparseAPGD` is the stronger one.

    Args:
        threat_model: where it searches.
        goal: what for; the paper's losses are the cross-entropy and the `DLR`, in AutoAttack against ranked targets.
        iterate: which of the points seen comes back.
        restarts: tries from random starts.
        steps: N_iter.
        momentum: α, the weight of the new step against the last one.
        rising: ρ; the share of steps that must have gone up between two checkpoints for the length to stay.
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
            self._look(state, first=i == 0)
            if i in intervals:
                self._check(state, intervals[i])
            state.drop_finished()
            if not len(state):
                return
            self._step(state, 1.0 if i == 0 else self.momentum)

    def _look(self, state: SearchState, first: bool) -> None:
        gain, _ = state.evaluate()
        slope = state.gradient(gain)
        params, gain = state.params.detach(), gain.detach()
        if first:
            length = torch.full_like(gain, 2.0)
            halved = torch.ones_like(gain, dtype=torch.bool)
            ascent = Ascent(params, slope, params, slope, gain, gain, length, torch.zeros_like(gain), gain, halved)
        else:
            last = Ascent(*state.buffers)
            better = gain > last.top_gain
            ascent = last._replace(
                slope=slope,
                top=torch.where(per_image(better, params), params, last.top),
                top_slope=torch.where(per_image(better, params), slope, last.top_slope),
                top_gain=torch.where(better, gain, last.top_gain),
                gain=gain,
                rises=last.rises + (gain > last.gain),
            )
        state.buffers = ascent

    def _check(self, state: SearchState, interval: int) -> None:
        """Conditions 1 and 2: too few steps went up, or the best is what it was with steps of the same length."""
        now = Ascent(*state.buffers)
        stuck = now.rises <= self.rising * interval  # "fewer than" in the paper, and this in its authors' package
        stuck |= ~now.halved & (now.top_gain <= now.mark)
        back = per_image(stuck, now.top)
        state.params = torch.where(back, now.top, state.params.detach())
        state.buffers = now._replace(
            slope=torch.where(back, now.top_slope, now.slope),
            length=torch.where(stuck, now.length / 2, now.length),
            rises=torch.zeros_like(now.rises),
            mark=now.top_gain,
            halved=stuck,
        )

    def _step(self, state: SearchState, momentum: float) -> None:
        now, params, region = Ascent(*state.buffers), state.params.detach(), state.region
        way = region.ascend(params, now.slope, 1.0) - params
        ahead = region.project(params + per_image(now.length, way) * way)
        state.params = region.project(params + momentum * (ahead - params) + (1 - momentum) * (params - now.before))
        state.buffers = now._replace(before=params)


def _checkpoints(steps: int) -> list[tuple[int, int]]:
    """Iterations after which the lengths are reconsidered, and how many lie since the last one (§3.1, in percent)."""
    shares = [0, 22]
    while shares[-1] < 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    points = sorted({-(-share * steps // 100) for share in shares})  # rounded up
    return [(end, end - start) for start, end in pairwise(points) if end < steps]
