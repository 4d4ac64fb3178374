"""A fractal cloud by the diamond-square algorithm on a torus.

Fournier, Fussell and Carpenter, "Computer rendering of stochastic models", Communications of the ACM 1982.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.noise import Noise

_AMPLITUDE = 100.0  # w of the coarsest level


def plasma(side: int, decay: float, noise: Noise) -> Tensor:
    """`[N, side, side]` in [0, 1], its least value 0 and its greatest 1.

    From level to level points are set to the mean of their four neighbours plus w·U(−w, w), and w falls by the decay:
    the noise by its square, as published.

    Args:
        side: a power of two.
        decay: of the finer levels.
        noise: of N examples; draws are numbered from 0 in the order in which the points are set.
    """
    cloud = torch.zeros(len(noise.seeds), side, side, dtype=torch.float64)
    step, width, draw = side, _AMPLITUDE, 0

    def wobbled(total: Tensor) -> Tensor:
        nonlocal draw
        wobble = noise.uniform(total.shape, -1, 1, draw=draw).double() * width * width
        draw += 1
        return total / 4 + wobble

    while step >= 2:
        half = step // 2
        corners = cloud[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        cloud[:, half::step, half::step] = wobbled(pairs + pairs.roll(-1, 2))
        centres, corners = cloud[:, half::step, half::step], cloud[:, ::step, ::step]
        cloud[:, ::step, half::step] = wobbled(centres + centres.roll(1, 1) + corners + corners.roll(-1, 2))
        cloud[:, half::step, ::step] = wobbled(centres + centres.roll(1, 2) + corners + corners.roll(-1, 1))
        step, width = half, width / decay
    cloud = cloud - cloud.amin((1, 2), keepdim=True)
    highest = cloud.amax((1, 2), keepdim=True)
    return cloud / torch.where(highest > 0, highest, 1.0)
