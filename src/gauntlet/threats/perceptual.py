"""The neural perceptual ball: every image that a network finds close (Laidlaw et al. 2021, §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.distances import Embedding, Perception, PerceptualDistance, apart
from gauntlet.noise import Noise
from gauntlet.scopes import exact
from gauntlet.threats.l2 import norm, per_image
from gauntlet.threats.region import Look, Region, share

_TOLERANCE = 1e-5  # of the bound: what float32 loses between two batch sizes
_START = 0.01  # standard deviation of the first δ; at δ = 0 the distance has no direction


@dataclass(frozen=True)
class NeuralPerceptual:
    """All images x' in [0, 1] with d(x, x') ≤ bound.

    Args:
        distance: `LPIPS` of a fixed network, or `SelfLPIPS` for the classifier under attack.
        bound: in units of d; the paper evaluates at 0.5.
    """

    distance: PerceptualDistance
    bound: float
    name: ClassVar[str] = "perceptual"

    def __post_init__(self) -> None:
        if not self.bound >= 0:
            raise ValueError(f"perceptual bound {self.bound} is negative: the paper's are 0.25 to 1")

    def around(self, images: Tensor, classifier: nn.Module | None = None) -> PerceptualRegion:
        """The ball around each of `[N, C, H, W]` images; φ of the clean images is computed here, once."""
        perception = self.distance.of(classifier)
        with torch.no_grad(), exact():
            clean = perception.embed(images)
        return PerceptualRegion(images, self.bound, perception, clean)


@dataclass(frozen=True)
class PerceptualRegion(Region):
    """The perceptual balls around one batch. The params are δ, `[N, C, H, W]`."""

    perception: Perception
    clean: Embedding

    def identity(self) -> Tensor:
        """δ = 0."""
        return torch.zeros_like(self.images)

    def start(self, noise: Noise) -> Tensor:
        """N(0, 0.01²) per pixel, not clamped."""
        return noise.normal(self.images.shape, _START).to(self.images)

    def perturb(self, params: Tensor) -> Tensor:
        """x + δ."""
        return self.images + params

    def clip(self, params: Tensor) -> Tensor:
        """The nearest δ for which x + δ is in [0, 1]."""
        return (self.images + params).clamp(0, 1) - self.images

    def look(self, classifier: nn.Module, params: Tensor) -> Look:
        """Logits, φ and d at the params: one forward if the network of the distance is the classifier, else two."""
        images = self.perturb(params)
        if self.perception.network is classifier:
            embedding, logits = self.perception.tap(images)
        else:
            logits, embedding = classifier(images), self.perception.embed(images)
        return Look(logits, apart(embedding, self.clean), embedding)

    def inside(self, params: Tensor, look: Look) -> Tensor:
        """d ≤ bound, and x + δ in [0, 1], where a start need not be, `[n]`."""
        assert look.distance is not None
        images = self.perturb(params)
        box = ((images >= 0) & (images <= 1)).flatten(1).all(1)
        return box & (look.distance <= self.bound * (1 + _TOLERANCE))

    def project(self, params: Tensor, halvings: int = 10) -> Tensor:
        """The farthest point found inside the ball on the way from x to x + δ, by bisection.

        A δ already inside stays. The point returned was measured inside: never just the last one probed.
        """
        params = self.clip(params)
        outside = self._distance(params) > self.bound
        low, high = torch.zeros_like(outside, dtype=params.dtype), torch.ones_like(outside, dtype=params.dtype)
        for _ in range(halvings):
            middle = (low + high) / 2
            beyond = self._distance(self._scaled(params, middle)) > self.bound
            low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
        return torch.where(per_image(outside, params), self._scaled(params, low), params)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Along the gradient, about `step` bounds in perceptual distance."""
        return self.advance(params, gradient, self.perception.embed(self.perturb(params)), step * self.bound)

    @torch.no_grad()
    def advance(
        self, params: Tensor, gradient: Tensor, embedding: Embedding, length: float, probe: float = 0.1
    ) -> Tensor:
        """δ moved along the gradient by about `length` in perceptual distance, and clipped.

        How fast φ changes that way is a finite difference: one more forward of φ's network.

        Args:
            params: δ, `[N, C, H, W]`.
            gradient: to climb, same shape.
            embedding: φ(x + δ), known from the last look.
            length: in units of d.
            probe: h, the pixel length over which the rate is measured.
        """
        along = gradient / (per_image(norm(gradient), gradient) + 1e-8)
        probed = self.perception.embed(self.perturb(params + probe * along))
        rate = apart(embedding, probed) / probe
        return self.clip(params + along * per_image(length / (rate + 1e-4), params))

    def extent(self, params: Tensor) -> float:
        """Any pixel from 0 to 1, unless nothing may change."""
        return 1.0 if self.bound else 0.0

    def size(self, params: Tensor) -> Tensor:
        """d(x, x + δ) as a share of the bound, `[N]`."""
        return share(self._distance(params), self.bound)

    def _scaled(self, params: Tensor, shares: Tensor) -> Tensor:
        """x + t·δ as a δ; a point between two images needs no clipping but for its last bit."""
        return self.clip(params * per_image(shares, params))

    def _distance(self, params: Tensor) -> Tensor:
        with torch.no_grad(), exact():  # under autocast too: what is promised to be inside is measured in full
            return apart(self.perception.embed(self.perturb(params)), self.clean)
