"""The L2 ball: the L2 norm of the change of all pixels is at most the bound."""

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


def per_image(vector: Tensor, images: Tensor) -> Tensor:
    """`[N]` shaped so that it multiplies `[N, C, H, W]`."""
    return vector.reshape(-1, *([1] * (images.ndim - 1)))


def norm(images: Tensor) -> Tensor:
    """The L2 norm of each image, `[N]`; its gradient at 0 is 0."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1)


def direction(gradient: Tensor) -> Tensor:
    """Each gradient at unit length, however small it is; a zero gradient stays zero."""
    largest = gradient.abs().flatten(1).amax(1).clamp(min=1e-38)
    gradient = gradient / per_image(largest, gradient)  # so that no square underflows
    length = per_image(norm(gradient), gradient)
    return gradient / torch.where(length > 0, length, 1)


@dataclass(frozen=True)
class L2:
    """All images x + δ in [0, 1] with ‖δ‖₂ ≤ bound.

    Args:
        bound: largest length of the change, in [0, 1] pixel units over the whole image (1.0 on CIFAR-10, never 255).
    """

    identity: ClassVar[str] = "l2/1"
    bound: float
    name: ClassVar[str] = "l2"
    unit: ClassVar[str] = "L2"

    def __post_init__(self) -> None:
        if not 0 <= self.bound < inf:
            raise ValueError(
                f"L2 bound {self.bound} is negative or infinite: write the length of the largest change, such as 1.0"
            )

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> L2Region:
        """The ball around each image. The classifier is not used."""
        images = batch.images
        if len(images) and self.bound > images[0].numel() ** 0.5:
            raise ValueError(
                f"L2 bound {self.bound} is longer than any change of {tuple(images.shape[1:])} images can be:"
                f" bounds are in [0, 1] pixel units; divide by 255"
            )
        return L2Region(images, self.bound)


@dataclass(frozen=True)
class L2Region(AdditiveRegion):
    """The L2 balls around one batch. The params are δ, `[N, C, H, W]`."""

    def start(self, noise: Noise) -> Tensor:
        """Uniform in the ball: a Gaussian direction at radius bound · U^(1/D)."""
        radius = noise.uniform((len(self.images),), draw=1) ** (1 / max(1, self.images[:1].numel()))
        delta = direction(noise.normal(self.images.shape)) * per_image(self.bound * radius, self.images)
        return self.project(delta.to(self.images))

    def project(self, params: Tensor) -> Tensor:
        """δ scaled into the ball, then clamped so that x + δ stays in [0, 1], which only shortens it."""
        length = norm(params)
        scale = torch.where(length > self.bound, self.bound / length.clamp(min=1e-30), 1.0)
        return self.clip(params * per_image(scale, params))

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Along the gradient at unit length."""
        return params + step * self.bound * direction(gradient)

    def extent(self, params: Tensor) -> float:
        """The bound."""
        return self.bound

    def size(self, params: Tensor) -> Tensor:
        """‖δ‖₂ as a share of the bound, `[N]`."""
        return share(norm(params), self.bound)

    def distance(self, params: Tensor) -> Tensor:
        """‖x' − x‖₂, `[N]` float64."""
        return norm(self.change(params))
