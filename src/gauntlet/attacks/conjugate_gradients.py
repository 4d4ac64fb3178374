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

    An example is solved, and stays bit-identical, once its residual is `tolerance` of its own right side, or where A
    has no curvature along its next direction; a right side of 0 is solved at once. Examples are independent.

    Args:
        product: v ↦ A v for all examples, both `[n, …]`.
        right: b, `[n, …]`.
        iterations: maximum number of products.
        tolerance: relative to ‖b‖, per example.

    Returns:
        u and the residual b − A u, both `[n, …]`.
    """
    solution = torch.zeros_like(right)
    residual, direction = right.clone(), right.clone()
    square = _dot(residual, residual)
    enough = tolerance**2 * square
    active = square > 0
    for _ in range(iterations):
        if not active.any():
            break
        product_along = product(direction)
        curvature = _dot(direction, product_along)
        active = active & (curvature > torch.finfo(right.dtype).eps ** 2 * _dot(direction, direction))
        step_size = torch.where(active, square / torch.where(active, curvature, 1), 0)
        solution = solution + per_image(step_size, right) * direction
        residual = residual - per_image(step_size, right) * product_along
        previous_square, square = square, _dot(residual, residual)
        active = active & (square > enough)
        correction = torch.where(active, square / torch.where(active, previous_square, 1), 0)
        direction = residual + per_image(correction, right) * direction
    return solution, residual


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """⟨one, other⟩ of each example, `[n]`."""
    return (one * other).flatten(1).sum(1)
