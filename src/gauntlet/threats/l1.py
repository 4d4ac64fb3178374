"""The L1 ball: the absolute changes of all pixels add up to at most the bound.

The set is the ball inside [0, 1], as in Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
classifiers", ICML 2021: projecting onto the ball first and clamping afterwards leaves most of the budget unused.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.additive import AdditiveRegion
from gauntlet.threats.region import share


def knapsack(room: Tensor, worth: Tensor, budget: float | Tensor) -> Tensor:
    """Fractional knapsack: the amounts taken of each item, most valuable first (Dantzig 1957), `[N, D]`.

    Args:
        room: `[N, D]` ≥ 0, the available amount of each item.
        worth: `[N, D]`, the value per unit of each item; among equals the first is taken first.
        budget: the total amount, a number or `[N, 1]`.
    """
    order = worth.argsort(dim=1, descending=True, stable=True)
    sizes = room.gather(1, order)
    before = sizes.cumsum(1) - sizes
    taken = torch.minimum((budget - before).clamp(min=0), sizes)
    return torch.zeros_like(room).scatter(1, order, taken)


def onto_ball_and_box(params: Tensor, images: Tensor, bound: float) -> Tensor:
    """The nearest δ with ‖δ‖₁ ≤ bound and x + δ in [0, 1] (Croce & Hein 2021, proposition 2.1), `[N, D]`.

    It is sign(p) · clip(|p| − λ, 0, b), where b is the room of a pixel in [0, 1] in the direction of p and λ ≥ 0 is the
    common shrinkage. The length is piecewise linear in λ with corners at |p| and |p| − b: they are sorted, and λ is
    solved for in its piece. In float64 throughout.

    Args:
        params: p, `[N, D]`.
        images: x, `[N, D]`.
        bound: ≥ 0.
    """
    requested, x = params.double(), images.double()
    magnitude, room = requested.abs(), torch.where(requested > 0, 1 - x, x)
    corners = torch.cat((magnitude, (magnitude - room).clamp(min=0)), 1)
    corners, order = corners.sort(dim=1, descending=True)
    # The number of pixels that shrink with λ below a corner.
    moving = torch.where(order < magnitude.shape[1], 1.0, -1.0).double().cumsum(1)
    lengths = (moving[:, :-1] * (corners[:, :-1] - corners[:, 1:])).cumsum(1)
    lengths = torch.cat((torch.zeros_like(lengths[:, :1]), lengths), 1)  # at the corners
    piece = ((lengths <= bound).sum(1, keepdim=True) - 1).clamp(min=0)
    spare = bound - lengths.gather(1, piece)
    shrinkage = corners.gather(1, piece) - spare / moving.gather(1, piece).clamp(min=1)
    shrunk = torch.minimum((magnitude - shrinkage.clamp(min=0)).clamp(min=0), room)
    return (requested.sign() * shrunk).to(params.dtype)


@dataclass(frozen=True)
class L1:
    """All images x + δ in [0, 1] with ‖δ‖₁ ≤ bound.

    Args:
        bound: the sum of all |changes|, in [0, 1] pixel units over the whole image (12 on CIFAR-10, never 3060).
    """

    identity: ClassVar[str] = "l1/1"
    bound: float
    name: ClassVar[str] = "l1"
    unit: ClassVar[str] = "L1"

    def __post_init__(self) -> None:
        if not 0 <= self.bound < inf:
            raise ValueError(
                f"L1 bound {self.bound} is negative or infinite: write the sum of the largest changes, such as 12.0"
            )

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> L1Region:
        """The ball around each image. The classifier is not used."""
        images = batch.images
        if len(images) and self.bound > images[0].numel():
            raise ValueError(
                f"L1 bound {self.bound} is more than {tuple(images.shape[1:])} images can change:"
                f" bounds are in [0, 1] pixel units; divide by 255"
            )
        return L1Region(images, self.bound)


@dataclass(frozen=True)
class L1Region(AdditiveRegion):
    """The L1 balls inside [0, 1] around one batch. The params are δ, `[N, C, H, W]`."""

    def start(self, noise: Noise) -> Tensor:
        """Uniform in the ball, then the nearest point of [0, 1].

        Exponential numbers with random signs, at radius bound · U^(1/D) (Barthe et al. 2005).
        """
        shape = self.images.flatten(1).shape
        sizes = -(1 - noise.uniform(shape, draw=0)).log()
        signs = torch.where(noise.uniform(shape, draw=1) < 0.5, -1, 1)
        radius = noise.uniform((shape[0], 1), draw=2) ** (1 / max(1, shape[1]))
        delta = self.bound * radius * signs * sizes / sizes.sum(1, keepdim=True).clamp(min=1e-30)
        return self.project(delta.reshape(self.images.shape).to(self.images))

    def project(self, params: Tensor) -> Tensor:
        """The nearest δ in the ball and in [0, 1] at once."""
        return onto_ball_and_box(params.flatten(1), self.images.flatten(1), self.bound).reshape(params.shape)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Towards the best δ for a linear gain, by an equal amount at its k pixels: `step` bounds in all.

        Steepest ascent under L1 is one pixel at a time; moving the top share q of those that still can is the common
        step (SLIDE of Tramèr & Boneh 2019, §4; Mind the box, §3.3). Here q is not a parameter: the best δ has the
        k steepest pixels at their ends of [0, 1], as many as the budget allows, and they move there. Changes against
        the gradient are reduced; changes without effect on the gain are left to the projection.
        """
        along, delta, x = gradient.flatten(1), params.flatten(1), self.images.flatten(1)
        room = torch.where(along > 0, 1 - x, torch.where(along < 0, x, 0))
        best = along.sign() * knapsack(room, along.abs(), self.bound)
        amount = step * self.bound / (best != 0).sum(1, keepdim=True).clamp(min=1)
        change = torch.where((best != 0) | (delta * along.sign() < 0), best - delta, 0)
        return params + torch.minimum(torch.maximum(change, -amount), amount).reshape(params.shape)

    def size(self, params: Tensor) -> Tensor:
        """‖δ‖₁ as a share of the bound, `[N]`."""
        return share(params.abs().flatten(1).sum(1), self.bound)

    def distance(self, params: Tensor) -> Tensor:
        """‖x' − x‖₁, `[N]` float64."""
        return self.change(params).abs().sum(1)
