"""Fields of displacements or colour changes, and a penalty for their roughness.

Xiao et al., "Spatially transformed adversarial examples", ICLR 2018, eq. 4; Laidlaw and Feizi, "Functional adversarial
attacks", NeurIPS 2019, §3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gauntlet.noise import Noise
from gauntlet.threats.cube import CubeRegion

_SOFT = 1e-5  # the root of the 1e-10 under the papers' square root: lengths below it count quadratically


def roughness(field: Tensor) -> Tensor:
    """S, the length of the difference to every neighbour along every axis, summed over all points, `[N]`.

    Every pair of neighbours counts twice, once from each side. There are no neighbours beyond an edge.

    Args:
        field: `[N, C, …]`, a vector of C numbers at every point of a grid of any number of axes.
    """
    total = field.new_zeros(len(field))
    for axis in range(2, field.ndim):
        square = field.diff(dim=axis).square().sum(1)
        # √(square + soft²) − soft, written so that it is exactly 0 where nothing differs
        length = square / ((square + _SOFT**2).sqrt() + _SOFT)
        total = total + 2 * length.flatten(1).sum(1)
    return total


@dataclass(frozen=True)
class FieldRegion(CubeRegion):
    """Fields of numbers of at most the bound, with a penalty for roughness."""

    smoothness: float
    """The weight of the penalty for roughness, times bound."""
    spread: float
    """The spread of a search's start, as a share of the bound."""

    def start(self, noise: Noise) -> Tensor:
        """Uniform within `spread` of the bound."""
        width = self.spread * self.bound
        zero = self.zero()
        return self.project(noise.uniform(zero.shape, -width, width).to(zero))

    def penalty(self, params: Tensor) -> Tensor:
        """smoothness / bound · S, `[N]`; 0 at smoothness 0 and at bound 0, where a field is flat."""
        if self.smoothness == 0 or self.bound == 0:
            return params.new_zeros(len(params))
        return self.smoothness / self.bound * roughness(params)


def check_field(smoothness: float, spread: float) -> None:
    """Raise ValueError unless the smoothness is a weight ≥ 0 and the spread a share in [0, 1]."""
    if not 0 <= smoothness < float("inf"):
        raise ValueError(f"smoothness {smoothness} is not a weight ≥ 0: 0 is no penalty")
    if not 0 <= spread <= 1:
        raise ValueError(f"spread {spread} is not a share of the bound in [0, 1]: 0 starts at x itself")
