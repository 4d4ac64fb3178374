"""Regions with random material: shapes, flakes or waves that are drawn anew for every search of every example.

The number of the draw is part of the params, so that an image is a function of its params alone. A search draws one at
its start and keeps it, as it keeps the member of a union.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.noise import Noise
from gauntlet.threats.region import Region

DRAWS = 2**24
"""The number of draws; each is a whole number that float32 can represent."""


@dataclass(frozen=True)
class DrawnRegion(Region):
    """T(x, ρ) = ∪ over the draws. The params are `[N, 1 + P]`: the number of the draw, then P variables.

    A subclass inherits from it and from the geometry of its variables: `(DrawnRegion, CubeRegion)`.
    """

    @property
    @abstractmethod
    def num_variables(self) -> int:
        """P."""

    @abstractmethod
    def first(self, noise: Noise, drawn: Noise) -> Tensor:
        """The variables at the start of a search, `[N, P]`.

        Args:
            noise: of the start.
            drawn: of the material.
        """

    @abstractmethod
    def render(self, variables: Tensor, drawn: Noise) -> Tensor:
        """The images of `[N, P]` variables and of the material, `[N, C, H, W]`, differentiable."""

    def free(self, variables: Tensor, drawn: Noise) -> Tensor:
        """The variables with 0 for those that the material does not have; by default it has all."""
        return variables

    def zero(self) -> Tensor:
        """Draw 0 with variables of 0."""
        return self.images.new_zeros(len(self.images), 1 + self.num_variables)

    def start(self, noise: Noise) -> Tensor:
        """A draw, and the variables that a search begins at."""
        number = (noise.uniform((len(self.images), 1), draw=-1) * DRAWS).to(self.images)
        return torch.cat((number, self.first(noise, _noise_of(number)).to(self.images)), 1)

    def perturb(self, params: Tensor) -> Tensor:
        """The images of the variables, and of the material of each example's draw."""
        return self.render(params[:, 1:], _noise_of(params))

    def project(self, params: Tensor) -> Tensor:
        """The nearest variables inside the bound, and a whole number for the draw."""
        variables = super().project(self.free(params[:, 1:], _noise_of(params)))  # type: ignore[safe-super]
        return torch.cat((_number(params), variables), 1)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Ascend in the geometry of the variables; the draw stays."""
        variables = super().ascend(params[:, 1:], gradient[:, 1:], step)  # type: ignore[safe-super]
        return torch.cat((params[:, :1], variables), 1)

    def size(self, params: Tensor) -> Tensor:
        """The size of the variables, `[N]`."""
        return super().size(params[:, 1:])  # type: ignore[safe-super]

    def distance(self, params: Tensor) -> Tensor:
        """The distance of the variables from 0, `[N]` float64."""
        return super().distance(params[:, 1:])

    def extent(self, params: Tensor) -> Tensor:
        """The extent of the variables; 0 for the draw."""
        extent = torch.ones_like(params) * super().extent(params[:, 1:])
        return torch.cat((torch.zeros_like(extent[:, :1]), extent[:, 1:]), 1)


def _number(params: Tensor) -> Tensor:
    """The number of each example's draw, `[N, 1]`."""
    return params[:, :1].detach().nan_to_num().round().clamp(0, DRAWS - 1)


def _noise_of(params: Tensor) -> Noise:
    return Noise(_number(params)[:, 0].long())
