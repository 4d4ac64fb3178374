"""The neural perceptual ball: all images within a distance of network features (Laidlaw et al. 2021, §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.distances import Embedding, FeatureDistance, PerceptualDistance, feature_distance
from gauntlet.models import logits_and_surrogate, surrogate_of
from gauntlet.noise import Noise
from gauntlet.scopes import exact
from gauntlet.threats.additive import AdditiveRegion
from gauntlet.threats.crossing import crossing
from gauntlet.threats.l2 import norm, per_image
from gauntlet.threats.region import ForwardPass, Region, contained, share

WASTE = 0.002  # share of the bound that a projection may leave unused
PROBES = 24  # maximum number of forwards of φ in a projection, which needs two to five
_START = 0.01  # standard deviation of the first δ; at δ = 0 the gradient of the distance is 0


@dataclass(frozen=True)
class NeuralPerceptual:
    """All images x' in [0, 1] with d(x, x') ≤ bound.

    Args:
        distance: `LPIPS` of a fixed network, or `SelfLPIPS` for the classifier under attack.
        bound: in units of d; the paper evaluates at 0.5.
    """

    identity: ClassVar[str] = "neural_perceptual/1"
    distance: PerceptualDistance
    bound: float
    name: ClassVar[str] = "perceptual"

    def __post_init__(self) -> None:
        if self.distance is None:
            raise ValueError(
                "there is no distance: dataset.reference=null removes it from every perceptual threat model"
            )
        if not self.bound >= 0:
            raise ValueError(f"perceptual bound {self.bound} is negative: the paper's are 0.25 to 1")

    @property
    def unit(self) -> str:
        """The name of the distance: `lpips`, `lpips_self`."""
        return self.distance.name

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> PerceptualRegion:
        """The ball around each image; φ of the clean images is computed here, once."""
        metric = self.distance.bind(classifier)
        with torch.no_grad(), exact():
            clean = metric.embed(batch.images)
        return PerceptualRegion(batch.images, self.bound, metric, clean)


@dataclass(frozen=True)
class PerceptualRegion(AdditiveRegion):
    """The perceptual balls around one batch. The params are δ, `[N, C, H, W]`."""

    metric: FeatureDistance
    clean: Embedding

    def start(self, noise: Noise) -> Tensor:
        """N(0, 0.01²) per pixel, not clamped."""
        return noise.normal(self.images.shape, _START).to(self.images)

    def forward(self, classifier: nn.Module, params: Tensor) -> ForwardPass:
        """Logits, φ and d at the params: one forward if the network of the distance is the classifier, else two."""
        images = self.perturb(params)
        if self.metric.network is classifier and surrogate_of(classifier) is None:
            embedding, logits = self.metric.tap(images)
            return ForwardPass(logits, feature_distance(embedding, self.clean), embedding)
        logits, surrogate = logits_and_surrogate(classifier, images)
        embedding = self.metric.embed(images)
        return ForwardPass(logits, feature_distance(embedding, self.clean), embedding, surrogate)

    def inside(self, params: Tensor, output: ForwardPass) -> Tensor:
        """Where d ≤ bound and x + δ is in [0, 1], `[n]`; a start may be outside."""
        assert output.distance is not None
        return contained(self.perturb(params), share(output.distance, self.bound))

    def project(self, params: Tensor) -> Tensor:
        """The surface between x and x + δ, by bisection; a δ already inside stays."""
        return self.bisect(params)

    @torch.no_grad()
    def bisect(self, params: Tensor, waste: float = WASTE, probes: int = PROBES) -> Tensor:
        """The point between x and x + δ whose measured d is in [(1 − waste)·bound, bound]; a δ already inside stays.

        Args:
            params: δ, `[N, C, H, W]`.
            waste: the largest part of the bound to leave unused, as a share of it.
            probes: maximum number of forwards of φ per example; where d is discontinuous, more may be left unused.
        """
        params = self.clip(params)
        size = self.feature_distance(params)
        rows = (size > self.bound).nonzero()[:, 0]
        if len(rows):
            part, far = self.rows(rows), params[rows]
            near, near_size = torch.zeros_like(far), torch.zeros_like(size[rows])
            params[rows] = part.cross(near, near_size, far, size[rows], waste, probes)
        return params

    @torch.no_grad()
    def cross(
        self, near: Tensor, near_size: Tensor, far: Tensor, far_size: Tensor, waste: float = WASTE, probes: int = PROBES
    ) -> Tensor:
        """The δ on the surface between points inside and points outside, never beyond it.

        Args:
            near: `[N, C, H, W]`, inside.
            near_size: d at `near`, `[N]`.
            far: `[N, C, H, W]`, outside.
            far_size: d at `far`, `[N]`.
            waste: as in `bisect`.
            probes: as in `bisect`.
        """

        def along(ball: PerceptualRegion, start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
            return ball.clip(start + per_image(shares.to(start), start) * (end - start))

        def height(rows: Tensor, shares: Tensor) -> Tensor:
            part = self if len(rows) == len(near) else self.rows(rows)
            return part.feature_distance(along(part, near[rows], far[rows], shares))

        shares = crossing(height, near_size, far_size, self.bound, waste, probes)
        return torch.where(per_image(shares > 0, near), along(self, near, far, shares), near)

    @torch.no_grad()
    def distance(self, params: Tensor) -> Tensor:
        """d(x, x + δ), `[N]` float64: φ as its network computes it, their distance in float64."""
        with exact():
            embedding = self.metric.embed(self.perturb(params))
        return feature_distance(_to_double(embedding), _to_double(self.clean))

    def feature_distance(self, params: Tensor) -> Tensor:
        """d(x, x + δ), `[N]`, in φ's own dtype and with its graph; in full precision, also under autocast."""
        with exact():
            return feature_distance(self.metric.embed(self.perturb(params)), self.clean)

    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Move along the gradient by about `step` bounds in perceptual distance."""
        return self.advance(params, gradient, self.metric.embed(self.perturb(params)), step * self.bound)

    @torch.no_grad()
    def advance(
        self,
        params: Tensor,
        gradient: Tensor,
        embedding: Embedding,
        length: float,
        probe: float = 0.1,
        slowest: float = 1e-4,
    ) -> Tensor:
        """δ moved along the gradient by about `length` in perceptual distance, and clipped.

        The rate of change of φ is a finite difference, which costs one more forward of φ's network.

        Args:
            params: δ, `[N, C, H, W]`.
            gradient: to ascend, same shape.
            embedding: φ(x + δ), known from the last evaluation.
            length: in units of d.
            probe: h, the pixel length over which the rate is measured.
            slowest: added to the rate, against division by 0 where φ does not change.
        """
        along = gradient / (per_image(norm(gradient), gradient) + 1e-8)
        probed = self.metric.embed(self.perturb(params + probe * along))
        rate = feature_distance(embedding, probed) / probe
        return self.clip(params + along * per_image(length / (rate + slowest), params))

    @torch.no_grad()
    def size(self, params: Tensor) -> Tensor:
        """d(x, x + δ) as a share of the bound, `[N]`."""
        return share(self.feature_distance(params), self.bound)


def _to_double(embedding: Embedding) -> Embedding:
    return tuple(layer.double() for layer in embedding)


def perceptual(region: Region) -> PerceptualRegion:
    """Return the region if it is a perceptual one.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(region, PerceptualRegion):
        raise TypeError(f"{type(region).__name__} is not a perceptual ball: use OntoRegion, its own projection")
    return region
