"""Gradients of what is climbed. Where one is undefined there is no slope: the search goes on with the rest of it.

The derivative of a root at 0, or of a norm, is infinite times nothing: NaN in a few pixels, which would spoil a whole
step. As 0 in those pixels it is what the network has whose author took care of that.
"""

from __future__ import annotations

import torch
from torch import Tensor


def finite_gradient(ascent_logits: Tensor, params: Tensor, keep_graph: bool = False) -> Tensor:
    """The gradient of `[n]` numbers at the params `[n, …]` they depend on row by row; 0 where it is not finite."""
    (gradient,) = torch.autograd.grad(ascent_logits.sum(), params, retain_graph=keep_graph)
    return defined(gradient)


def defined(gradient: Tensor) -> Tensor:
    """The same numbers, and 0 for those that are NaN or infinite."""
    return gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
