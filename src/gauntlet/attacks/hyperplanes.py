"""The nearest point of a hyperplane inside [0, 1], exactly, under L∞, L2 and L1.

Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020, §3.1 and
appendix A, where the three problems are solved one by one. Here all are one: every pixel moves along the sign of
its weight, by

    min(τ, room) under L∞,      min(τ·|w|, room) under L2,      all its room or none under L1,

and what the moves bring, Σ |w|·move, rises with τ (under L1, with the pixels taken, the heaviest first) in straight
pieces. What is asked for lies on one of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.threats import L1, L2, Linf, ThreatModel
from gauntlet.threats.l1 import knapsack

Mover = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Weights `[N, D]` ≥ 0, room `[N, D]` ≥ 0 and what is asked for `[N]` ≥ 0 to moves `[N, D]` in [0, room]."""


def onto_hyperplane(points: Tensor, weights: Tensor, rise: Tensor, move: Mover) -> Tensor:
    """The least change of each point for which w·change = rise and that stays in [0, 1].

    Args:
        points: `[N, …]` in [0, 1].
        weights: w, `[N, …]`.
        rise: `[N]`, of either sign.
        move: one of the three below.

    Returns:
        The changes, `[N, …]`, reckoned in float64; where [0, 1] has no such point, the one that comes closest to it.
    """
    x, w, rise = points.flatten(1).double(), weights.flatten(1).double(), rise.double()
    away = w * torch.where(rise < 0, -1, 1)[:, None]
    room = torch.where(away > 0, 1 - x, torch.where(away < 0, x, 0))
    return (away.sign() * move(w.abs(), room, rise.abs())).reshape(points.shape).to(points.dtype)


def move_linf(weights: Tensor, room: Tensor, rise: Tensor) -> Tensor:
    """All pixels by the same τ, except those that come to an end before."""
    return torch.minimum(_level(weights, room, rise), room)


def move_l2(weights: Tensor, room: Tensor, rise: Tensor) -> Tensor:
    """Each pixel in proportion to its weight, except those that come to an end before."""
    heaviest = weights.amax(1, keepdim=True)
    weights = weights / torch.where(heaviest > 0, heaviest, 1)  # so that no square underflows
    rise = rise / torch.where(heaviest > 0, heaviest, 1)[:, 0]
    ends = torch.where(weights > 0, room / torch.where(weights > 0, weights, 1), torch.inf)
    return torch.minimum((_level(weights**2, ends, rise) * weights).nan_to_num(), room)


def move_l1(weights: Tensor, room: Tensor, rise: Tensor) -> Tensor:
    """The heaviest pixels, each as far as it goes, the last of them by what is still missing."""
    brought = knapsack(weights * room, weights, rise[:, None])
    return torch.minimum(torch.where(weights > 0, brought / torch.where(weights > 0, weights, 1), 0), room)


def mover(threat_model: ThreatModel) -> Mover:
    """The mover of a threat model's own norm.

    Raises:
        TypeError: it is none of the three.
    """
    match threat_model:
        case Linf():
            return move_linf
        case L2():
            return move_l2
        case L1():
            return move_l1
    raise TypeError(
        f"{type(threat_model).__name__} is no norm in which the nearest point of a hyperplane is known: FAB searches"
        f" Linf, L2 and L1"
    )


def _level(slopes: Tensor, ends: Tensor, rise: Tensor) -> Tensor:
    """τ ≥ 0, `[N, 1]`, with Σ slope·min(τ, end) = rise, or infinite where all ends together do not bring it.

    By Newton's method from the left: the sum is concave in τ and made of straight pieces, so that no step goes too far
    and the one from the piece where τ lies is the last. Pieces are passed many at a time; sorting would cost more.
    """
    moving = slopes > 0
    brings = torch.where(moving, slopes * ends, 0)  # once its end is reached
    level = torch.zeros_like(rise)[:, None]
    while True:
        brought = torch.where(moving, 0, brings).sum(1, keepdim=True)
        pace = torch.where(moving, slopes, 0).sum(1, keepdim=True)
        ahead = torch.where(pace > 0, (rise[:, None] - brought) / torch.where(pace > 0, pace, 1), torch.inf)
        level = torch.maximum(level, ahead)  # what is left to bring may round below 0
        still = moving & (ends > level)
        if still.equal(moving):
            return level
        moving = still
