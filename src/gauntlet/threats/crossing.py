"""Where a segment from inside leaves a ball: bracketed root finding, one root per example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_RESOLUTION = 2.0**-10  # how closely a discontinuity is approached, relative to its position


@torch.no_grad()
def crossing(
    height: Callable[[Tensor, Tensor], Tensor], low: Tensor, high: Tensor, level: float, waste: float, probes: int
) -> Tensor:
    """The share t of each segment, `[n]`, at which height(t) was measured in [level·(1 − waste), level].

    False position with the middle of that interval as its target, and a bisection at every third probe, for curved
    heights. Where the probes are used up, or the height is discontinuous, t is the last one measured at or below the
    level: the result is never above it. φ is discontinuous where dead activations become active; the search stops
    before rounding would decide the side.

    Args:
        height: of some rows `[m]` (indices) at shares `[m]`, `[m]`.
        low: heights at t = 0, `[n]`, at most the level.
        high: heights at t = 1, `[n]`, above the level.
        level: not to be exceeded.
        waste: the largest part of the level to leave unused, as a share of it.
        probes: maximum number of heights measured per row.
    """
    left, right = torch.zeros_like(low), torch.ones_like(high)
    floor, target = level * (1 - waste), level * (1 - waste / 2)
    low, high = low.clone(), high.clone()
    for probe in range(probes):
        rows = ((low < floor) & (right - left > _RESOLUTION * right)).nonzero()[:, 0]
        if not len(rows):
            break
        start, end = left[rows], right[rows]
        share = (target - low[rows]) / (high[rows] - low[rows]) if probe % 3 < 2 else 0.5
        t = start + share * (end - start)
        measured = height(rows, t)
        beyond = measured > level
        left[rows] = torch.where(beyond, start, t)
        right[rows] = torch.where(beyond, t, end)
        low[rows] = torch.where(beyond, low[rows], measured)
        high[rows] = torch.where(beyond, measured, high[rows])
    return left
