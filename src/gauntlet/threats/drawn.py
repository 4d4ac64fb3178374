"""Regions with random material: shapes, flakes or waves that are drawn anew for every search of every example.

The numbers of the draws are part of the params, so that an image is a function of its params alone. A search draws at
its start and keeps that, as it keeps the member of a union.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gauntlet.noise import Noise
from gauntlet.threats.region import Region

DRAWS = 2**24
"""The number of draws; each is a whole number that float32 can represent."""


@dataclass(frozen=True)
class DrawnRegion(Region):
    """T(x, ρ) = ∪ over the draws. The params are `[N, D + P]`: a number for each of D materials, then P variables.

    A subclass inherits from it and from the geometry of its variables: `(DrawnRegion, CubeRegion)`.
    """

    num_materials: ClassVar[int] = 1
    """D."""

    @property
    @abstractmethod
    def num_variables(self) -> int:
        """P."""

    @abstractmethod
    def first(self, noise: Noise, drawn: Sequence[Noise]) -> Tensor:
        """The variables at the start of a search, `[N, P]`.

        Args:
            noise: of the start.
            drawn: of each material.
        """

    @abstractmethod
    def render(self, variables: Tensor, drawn: Sequence[Noise]) -> Tensor:
        """The images of `[N, P]` variables and of the materials, `[N, C, H, W]`, differentiable."""

    def free(self, variables: Tensor, drawn: Sequence[Noise]) -> Tensor:
        """The variables with 0 for those that the materials do not have; by default they have all."""
        return variables

    def zero(self) -> Tensor:
        """Draw 0 with variables of 0."""
        return self.images.new_zeros(len(self.images), self.num_materials + self.num_variables)

    def start(self, noise: Noise) -> Tensor:
        """A draw, and the variables that a search begins at."""
        numbers = self._draw(noise, self.num_materials)
        return torch.cat((numbers, self.first(noise, self.drawn(numbers)).to(self.images)), 1)

    def redraw(self, params: Tensor, noise: Noise) -> Tensor:
        """The params with another draw of the last material."""
        kept = params[:, : self.num_materials - 1]
        return torch.cat((kept, self._draw(noise, 1), params[:, self.num_materials :]), 1)

    def drawn(self, params: Tensor) -> list[Noise]:
        """The random numbers of each material of each example's draw."""
        return [Noise(number) for number in self._numbers(params).long().unbind(1)]

    def perturb(self, params: Tensor) -> Tensor:
        """The images of the variables, and of the materials of each example's draw."""
        return self.render(self.variables(params), self.drawn(params))

    def variables(self, params: Tensor) -> Tensor:
        """The params without the numbers of the draw, `[N, P]`."""
        return params[:, self.num_materials :]

    def project(self, params: Tensor) -> Tensor:
        """The nearest variables inside the bound, and whole numbers for the draw."""
        variables = super().project(self.free(self.variables(params), self.drawn(params)))  # type: ignore[safe-super]
        return torch.cat((self._numbers(params), variables), 1)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Ascend in the geometry of the variables; the draw stays."""
        variables = super().ascend(self.variables(params), self.variables(gradient), step)  # type: ignore[safe-super]
        return torch.cat((params[:, : self.num_materials], variables), 1)

    def size(self, params: Tensor) -> Tensor:
        """The size of the variables, `[N]`."""
        return super().size(self.variables(params))  # type: ignore[safe-super]

    def distance(self, params: Tensor) -> Tensor:
        """The distance of the variables from 0, `[N]` float64."""
        return super().distance(self.variables(params))

    def extent(self, params: Tensor) -> Tensor:
        """The extent of the variables; 0 for the draw."""
        numbers, variables = torch.zeros_like(params[:, : self.num_materials]), self.variables(params)
        return torch.cat((numbers, torch.ones_like(variables) * super().extent(variables)), 1)

    def _draw(self, noise: Noise, count: int) -> Tensor:
        """New numbers, `[N, count]`."""
        return (noise.uniform((len(self.images), count), draw=-1) * DRAWS).to(self.images)

    def _numbers(self, params: Tensor) -> Tensor:
        """The numbers of each example's draw, `[N, D]`."""
        return params[:, : self.num_materials].detach().nan_to_num().round().clamp(0, DRAWS - 1)
