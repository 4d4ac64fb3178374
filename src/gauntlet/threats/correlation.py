"""Correlations with one kernel per example."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from gauntlet.scopes import exact


def correlated(planes: Tensor, kernels: Tensor) -> Tensor:
    """Every plane correlated with the kernel of its example, `[N, C, H, W]`; black beyond the edge.

    In full precision under autocast too.

    Args:
        planes: `[N, C, H, W]`.
        kernels: `[N, 1, k, k]`, k odd.
    """
    if not len(planes):
        return planes
    with exact():
        # the examples are the channels, each a group
        across = F.conv2d(planes.transpose(0, 1), kernels, padding=kernels.shape[-1] // 2, groups=len(planes))
    return across.transpose(0, 1)
