"""The nearest point of a hyperplane inside [0, 1], exactly, under L∞, L2 and L1.

Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020, §3.1 and
appendix A, where the three problems are solved one by one. Here all are one: every pixel moves along the sign of
its weight, by

    min(τ, room) under L∞,      min(τ·|w|, room) under L2,      all its room or none under L1,

where room is the distance to the end of [0, 1]. The resulting Σ |w|·move is piecewise linear and increasing in τ
(under L1, in the number of pixels moved, the largest weights first), and is solved for the requested value.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.threats import L1, L2, Linf, ThreatModel
from gauntlet.threats.l1 import knapsack

Mover = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Weights `[N, D]` ≥ 0, room `[N, D]` ≥ 0 and requested Σ weight·move `[N]` ≥ 0 to moves `[N, D]` in [0, room]."""


def onto_hyperplane(points: Tensor, weights: Tensor, rise: Tensor, move: Mover) -> Tensor:
    """The least change of each point for which w·change = rise and that stays in [0, 1].

    Args:
        points: `[N, …]` in [0, 1].
        weights: w, `[N, …]`.
        rise: `[N]`, of either sign.
        move: one of the three below.

    Returns:
        The changes, `[N, …]`, computed in float64; where [0, 1] has no such point, those with the closest w·change.
    """
    x, w, rise = points.flatten(1).double(), weights.flatten(1).double(), rise.double()
    away = w * torch.where(rise < 0, -1, 1)[:, None]
    room = torch.where(away > 0, 1 - x, torch.where(away < 0, x, 0))
    return (away.sign() * move(w.abs(), room, rise.abs())).reshape(points.shape).to(points.dtype)


def move_linf(weights: Tensor, room: Tensor, rise: Tensor) -> Tensor:
    """Move all pixels by the same τ, limited by their room."""
    return torch.minimum(_level(weights, room, rise), room)


def move_l2(weights: Tensor, room: Tensor, rise: Tensor) -> Tensor:
    """Move each pixel in proportion to its weight, limited by its room."""
    heaviest = weights.amax(1, keepdim=True)
    weights = weights / torch.where(heaviest > 0, heaviest, 1)  # so that no square underflows
    rise = rise / torch.where(heaviest > 0, heaviest, 1)[:, 0]
    ends = torch.where(weights > 0, room / torch.where(weights > 0, weights, 1), torch.inf)
    return torch.minimum((_level(weights**2, ends, rise) * weights).nan_to_num(), room)


def move_l1(weights: Tensor, room: Tensor, rise: Tensor) -> Tensor:
    """Move the pixels of largest weight by all their room, the last of them by the remainder."""
    gains = knapsack(weights * room, weights, rise[:, None])
    return torch.minimum(torch.where(weights > 0, gains / torch.where(weights > 0, weights, 1), 0), room)


def mover(threat_model: ThreatModel) -> Mover:
    """The mover for the norm of a threat model.

    Raises:
        TypeError: the threat model is not L∞, L2 or L1.
    """
    match threat_model:
        case Linf():
            return move_linf
        case L2():
            return move_l2
        case L1():
            return move_l1
    raise TypeError(
        f"no closed form of the nearest point of a hyperplane for {type(threat_model).__name__}: FAB searches Linf, L2"
        f" and L1"
    )


def _level(slopes: Tensor, ends: Tensor, rise: Tensor) -> Tensor:
    """τ ≥ 0, `[N, 1]`, with Σ slope·min(τ, end) = rise, or infinite where the sum of all ends is less than that.

    By Newton's method from the left: the sum is concave and piecewise linear in τ, so that no step overshoots and the
    step from the piece of the solution is exact. One step passes many pieces; sorting would cost more.
    """
    moving = slopes > 0
    saturated = torch.where(moving, slopes * ends, 0)  # what each pixel adds from its end on
    level = torch.zeros_like(rise)[:, None]
    while True:
        constant = torch.where(moving, 0, saturated).sum(1, keepdim=True)
        slope = torch.where(moving, slopes, 0).sum(1, keepdim=True)
        solution = torch.where(slope > 0, (rise[:, None] - constant) / torch.where(slope > 0, slope, 1), torch.inf)
        level = torch.maximum(level, solution)  # the remainder may round below 0
        still_moving = moving & (ends > level)
        if still_moving.equal(moving):
            return level
        moving = still_moving
