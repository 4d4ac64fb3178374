"""Gradients of an objective, with 0 where they are undefined.

The derivative of a square root or a norm at 0 is NaN (∞ · 0) in a few pixels and would spoil a whole step. Networks
that handle this case return 0 there.
"""

from __future__ import annotations

import torch
from torch import Tensor


def finite_gradient(objective: Tensor, params: Tensor, keep_graph: bool = False) -> Tensor:
    """The gradient of `[n]` objectives at the params `[n, …]`, row by row; 0 where it is not finite.

    Raises:
        ValueError: they do not depend on the params in a way that autograd follows.
    """
    check_gain_has_gradient(objective.requires_grad)
    (gradient,) = torch.autograd.grad(objective.sum(), params, retain_graph=keep_graph)
    return defined(gradient)


def check_gain_has_gradient(has_gradient: bool) -> None:
    """Raise ValueError where autograd does not follow what a classifier answered: there is nothing to climb."""
    if not has_gradient:
        raise ValueError(
            "the classifier's answer has no gradient (a detach, no_grad or threshold in its forward): leave that out,"
            " give the classifier a surrogate, or use attacks that need no gradient, such as Square"
        )


def defined(gradient: Tensor) -> Tensor:
    """The gradient with 0 in place of NaN and infinities."""
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
