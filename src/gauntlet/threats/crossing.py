"""Where a way from inside leaves a ball: bracketed root finding, one root per example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_RESOLUTION = 2.0**-10  # how closely a jump is found, and then kept away from, as a share of the way to it


@torch.no_grad()
def crossing(
    height: Callable[[Tensor, Tensor], Tensor], low: Tensor, high: Tensor, level: float, waste: float, probes: int
) -> Tensor:
    """The share t of each way, `[n]`, at which height(t) was measured in [level·(1 − waste), level].

    False position aimed at the middle of that interval, and a halving at every third probe, for heights that bend.
    φ jumps where dead activations awake, and so close to a jump rounding decides the side: where a way was narrowed
    down to a jump, the answer keeps a distance from it. It is always measured at or below the level, also where the
    probes run out.

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
    begin, low, high = low, low.clone(), high.clone()
    done = low >= floor
    for probe in range(probes):
        rows = (~done).nonzero()[:, 0]
        if not len(rows):
            break
        from_, to = left[rows], right[rows]
        at_jump = to - from_ <= _RESOLUTION * to
        share = (aim - low[rows]) / (high[rows] - low[rows]) if probe % 3 < 2 else 0.5
        t = torch.where(at_jump, from_ - _RESOLUTION * to, from_ + share * (to - from_))
        measured = height(rows, t)
        beyond = measured > level
        again = beyond & at_jump  # there is another jump on the way to this one
        left[rows] = torch.where(again, 0, torch.where(beyond, from_, t))
        low[rows] = torch.where(again, begin[rows], torch.where(beyond, low[rows], measured))
        right[rows], high[rows] = torch.where(beyond, t, to), torch.where(beyond, measured, high[rows])
        done[rows] = ~beyond & (at_jump | (measured >= floor))
    return left
