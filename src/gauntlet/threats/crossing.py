"""Where a way from inside leaves a ball: bracketed root finding, one root per example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_RESOLUTION = 2.0**-10  # how closely a jump is approached, as a share of the way to it


@torch.no_grad()
def crossing(
    height: Callable[[Tensor, Tensor], Tensor], low: Tensor, high: Tensor, level: float, waste: float, probes: int
) -> Tensor:
    """The share t of each way, `[n]`, at which height(t) was measured in [level·(1 − waste), level].

    False position aimed at the middle of that interval, and a halving at every third probe, for heights that bend.
    Where the probes run out, or the height jumps, the last t measured at or below the level: the answer never lies
    above it. φ jumps where dead activations awake; so close to a jump rounding decides the side, and nobody goes there.

    Args:
        height: of some rows `[m]` (indices) at shares `[m]`, `[m]`.
        low: heights at t = 0, `[n]`, at most the level.
        high: heights at t = 1, `[n]`, above the level.
        level: not to be exceeded.
        waste: what may be left unused, as a share of the level.
        probes: the most heights measured per row.
    """
    left, right = torch.zeros_like(low), torch.ones_like(high)
    floor, aim = level * (1 - waste), level * (1 - waste / 2)
    low, high = low.clone(), high.clone()
    for probe in range(probes):
        rows = ((low < floor) & (right - left > _RESOLUTION * right)).nonzero()[:, 0]
        if not len(rows):
            break
        from_, to = left[rows], right[rows]
        share = (aim - low[rows]) / (high[rows] - low[rows]) if probe % 3 < 2 else 0.5
        t = from_ + share * (to - from_)
        measured = height(rows, t)
        beyond = measured > level
        left[rows], right[rows] = torch.where(beyond, from_, t), torch.where(beyond, t, to)
        low[rows], high[rows] = torch.where(beyond, low[rows], measured), torch.where(beyond, measured, high[rows])
    return left
