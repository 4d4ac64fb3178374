"""Where a segment from inside leaves a ball: bracketed root finding, one root per example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_RESOLUTION = 2.0**-10  # how closely a discontinuity is approached, and then avoided, relative to its position


@torch.no_grad()
def crossing(
    height: Callable[[Tensor, Tensor], Tensor], low: Tensor, high: Tensor, level: float, waste: float, probes: int
) -> Tensor:
    """The share t of each segment, `[n]`, at which height(t) was measured in [level·(1 − waste), level].

    False position with the middle of that interval as its target, and a bisection at every third probe, for curved
    heights. φ is discontinuous where dead activations become active, and so close to a discontinuity rounding decides
    the side: where the interval was narrowed down to one, t keeps a distance from it. The height at t is always
    measured at or below the level, also where the probes are used up.

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
    at_zero, low, high = low, low.clone(), high.clone()
    done = low >= floor
    for probe in range(probes):
        rows = (~done).nonzero()[:, 0]
        if not len(rows):
            break
        start, end = left[rows], right[rows]
        at_jump = end - start <= _RESOLUTION * end
        share = (target - low[rows]) / (high[rows] - low[rows]) if probe % 3 < 2 else 0.5
        t = torch.where(at_jump, start - _RESOLUTION * end, start + share * (end - start))
        measured = height(rows, t)
        beyond = measured > level
        again = beyond & at_jump  # there is another discontinuity before this one
        left[rows] = torch.where(again, 0, torch.where(beyond, start, t))
        low[rows] = torch.where(again, at_zero[rows], torch.where(beyond, low[rows], measured))
        right[rows] = torch.where(beyond, t, end)
        high[rows] = torch.where(beyond, measured, high[rows])
        done[rows] = ~beyond & (at_jump | (measured >= floor))
    return left
