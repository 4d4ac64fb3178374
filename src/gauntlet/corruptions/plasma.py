"""A fractal cloud, by the diamond-square algorithm on a torus.

Fournier, Fussell and Carpenter, "Computer rendering of stochastic models", Communications of the ACM 1982.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.noise import Noise

_AMPLITUDE = 100.0  # w of the coarsest level


def plasma(side: int, decay: float, noise: Noise) -> Tensor:
    """Return a cloud `[N, side, side]` in [0, 1], with minimum 0 and maximum 1.

    On each level, points are set to the mean of their four neighbours plus w·U(−w, w). Then w is divided by `decay`, so
    that the noise falls by its square, as published.

    Args:
        side: a power of two.
        decay: divisor of w from level to level.
        noise: random numbers of N examples; draws are numbered from 0 in the order in which the points are set.
    """
    cloud = torch.zeros(len(noise.seeds), side, side, dtype=torch.float64)
    step = side
    width = _AMPLITUDE
    draw = 0

    def with_noise(total: Tensor) -> Tensor:
        nonlocal draw
        offset = noise.uniform(total.shape, -1, 1, draw=draw).double() * width * width
        draw += 1
        return total / 4 + offset

    while step >= 2:
        half = step // 2
        corners = cloud[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        cloud[:, half::step, half::step] = with_noise(pairs + pairs.roll(-1, 2))
        centres, corners = cloud[:, half::step, half::step], cloud[:, ::step, ::step]
        cloud[:, ::step, half::step] = with_noise(centres + centres.roll(1, 1) + corners + corners.roll(-1, 2))
        cloud[:, half::step, ::step] = with_noise(centres + centres.roll(1, 2) + corners + corners.roll(-1, 1))
        step, width = half, width / decay
    cloud = cloud - cloud.amin((1, 2), keepdim=True)
    highest = cloud.amax((1, 2), keepdim=True)
    return cloud / torch.where(highest > 0, highest, 1.0)
