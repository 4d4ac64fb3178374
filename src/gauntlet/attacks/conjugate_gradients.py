"""Conjugate gradients for one linear system per example (Hestenes and Stiefel 1952)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.threats.l2 import per_image


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Solve A u = b for positive semi-definite A, one system per example, from u = 0.

    An example is done, and stays bit for bit, once its residual is `tolerance` of its own right side, or where A has no
    curvature left along its next direction; a right side of 0 is done at once. No example hears of another.

    Args:
        product: v ↦ A v for all examples, both `[n, …]`.
        right: b, `[n, …]`.
        iterations: the most products.
        tolerance: of ‖b‖, per example.

    Returns:
        u and the residual b − A u, both `[n, …]`.
    """
    solution, residual, direction = torch.zeros_like(right), right.clone(), right.clone()
    square = _dot(residual, residual)
    enough = tolerance**2 * square
    open_ = square > 0
    for _ in range(iterations):
        if not open_.any():
            break
        image = product(direction)
        curvature = _dot(direction, image)
        open_ = open_ & (curvature > torch.finfo(right.dtype).eps ** 2 * _dot(direction, direction))
        length = torch.where(open_, square / torch.where(open_, curvature, 1), 0)
        solution = solution + per_image(length, right) * direction
        residual = residual - per_image(length, right) * image
        before, square = square, _dot(residual, residual)
        open_ = open_ & (square > enough)
        turn = torch.where(open_, square / torch.where(open_, before, 1), 0)
        direction = residual + per_image(turn, right) * direction
    return solution, residual


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """⟨one, other⟩ of each example, `[n]`."""
    return (one * other).flatten(1).sum(1)
