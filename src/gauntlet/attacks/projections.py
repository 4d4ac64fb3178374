"""Projections of points outside a region back into it.

Bisection and Newton's method are those of Laidlaw et al., "Perceptual Adversarial Robustness", ICLR 2021, appendix A,
solved per example and up to the surface of the ball: they leave 0.2 % of the bound unused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from gauntlet.attacks.gradient import finite_gradient
from gauntlet.threats import Region
from gauntlet.threats.l2 import per_image
from gauntlet.threats.perceptual import PROBES, WASTE, PerceptualRegion, perceptual
from gauntlet.varied import STEPS


class Projection(Protocol):
    """Maps params to params, inside the region if `promises` is true."""

    @property
    def promises(self) -> bool:
        """Whether the result is always inside."""

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """Params `[N, …]` to params `[N, …]`."""


@dataclass(frozen=True)
class NoProjection:
    """No projection: used in perceptual adversarial training, where a penalty limits the distance."""

    identity: ClassVar[str] = "no_projection/1"
    promises: ClassVar[bool] = False

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """The same params."""
        return params


@dataclass(frozen=True)
class OntoRegion:
    """The region's own projection; for a perceptual ball, bisection towards x."""

    identity: ClassVar[str] = "onto_region/1"
    promises: ClassVar[bool] = True

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """The region's nearest params inside."""
        return region.project(params)


@dataclass(frozen=True)
class Bisection:
    """Bisection towards x, onto the surface of a perceptual ball. Points inside stay; costs 1F and 2F to 5F.

    Args:
        waste: the largest part of the bound to leave unused, as a share of it.
        probes: maximum number of forwards of φ per example.
    """

    identity: ClassVar[str] = "bisection/1"
    waste: float = WASTE
    probes: int = PROBES
    promises: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.waste < 1 or self.probes < 1:
            raise ValueError(
                f"bisection to {self.waste} of the bound in {self.probes} probes: expected a share between 0 and 1"
                f" such as {WASTE}, and at least 1 probe"
            )

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """See `PerceptualRegion.bisect`."""
        return perceptual(region).bisect(params, self.waste, self.probes)


@dataclass(frozen=True)
class Newton:
    """Newton's method on d, onto the surface of a perceptual ball, with a bisection between the last two points.

    Bisection scales δ as a whole; this reduces what φ is most sensitive to. Costs 1F, and 1F + 1B a step for points
    outside. Points that do not come inside are moved straight towards x.

    Args:
        waste: the largest part of the bound to leave unused, as a share of it.
        steps: maximum number of moves per example.
    """

    identity: ClassVar[str] = "newton/1"
    waste: float = WASTE
    steps: int = field(default=10, metadata=STEPS)
    promises: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.waste < 1 or self.steps < 1:
            raise ValueError(
                f"Newton's method to {self.waste} of the bound in {self.steps} steps: expected a share between 0 and 1"
                f" such as {WASTE}, and at least 1 step"
            )

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """Params `[N, C, H, W]` to params on the surface; params inside stay."""
        ball = perceptual(region)
        descent = _descend(ball, params, ball.bound * (1 - self.waste / 2), 1.0, self.steps)
        rows = descent.started_outside
        if len(rows):
            ends = descent.near[rows], descent.near_size[rows], descent.far[rows], descent.far_size[rows]
            descent.near[rows] = ball.rows(rows).cross(*ends, self.waste)
        return descent.near


@dataclass(frozen=True)
class OvershootingNewton:
    """Newton's method as published: each move is 1.1 times the step for d − bound + 0.1.

    It leaves 0.1 of d unused, 20 to 45 % of the published bounds. Points still outside at the end are bisected towards
    x from their original params.

    Args:
        overshoot: added to d − bound, in units of d.
        factor: of each move.
        steps: maximum number of moves per example.
    """

    identity: ClassVar[str] = "overshooting_newton/1"
    overshoot: float = 0.1
    factor: float = 1.1
    steps: int = field(default=10, metadata=STEPS)
    promises: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.overshoot >= 0 or not self.factor > 0 or self.steps < 1:
            raise ValueError(
                f"Newton's method beyond the surface by {self.overshoot}, {self.factor} times, in {self.steps} steps:"
                f" expected an overshoot ≥ 0, a factor > 0 and at least 1 step; the paper's are 0.1, 1.1 and 10"
            )

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """Params `[N, C, H, W]` to params well inside; params inside stay."""
        ball = perceptual(region)
        descent = _descend(ball, params, ball.bound - self.overshoot, self.factor, self.steps)
        rows = descent.stayed_outside
        if len(rows):
            descent.near[rows] = ball.rows(rows).bisect(params[rows])
        return descent.near


@dataclass
class _Descent:
    """The end points of Newton's method for N examples."""

    near: Tensor
    """The first δ inside; 0 where there was none."""
    near_size: Tensor
    """d at `near`, `[N]`."""
    far: Tensor
    """The last δ outside, if any."""
    far_size: Tensor
    """d at `far`, `[N]`."""
    started_outside: Tensor
    """Indices of the examples that moved."""
    stayed_outside: Tensor
    """Indices of the examples that never came inside."""


def _descend(ball: PerceptualRegion, params: Tensor, target: float, factor: float, steps: int) -> _Descent:
    """Newton's method on d = target for points outside: δ ← clip(δ − factor·(d − target)·∇d/‖∇d‖²) until d ≤ bound."""
    current = ball.clip(params)
    rows = torch.arange(len(current), device=current.device)
    size, gradient = _distance_and_gradient(ball, current)
    outside = size > ball.bound
    near = torch.where(per_image(outside, current), 0, current)
    descent = _Descent(near, torch.where(outside, 0, size), current.clone(), size.clone(), rows[outside], rows[outside])
    for _ in range(steps):
        if not outside.any():
            break
        if not outside.all():
            current, size, gradient = current[outside], size[outside], gradient[outside]
            rows, ball = rows[outside], ball.rows(outside)
        steepness = gradient.flatten(1).square().sum(1)
        move = torch.where(steepness > 0, factor * (size - target) / steepness.clamp(min=1e-30), 0)
        current = ball.clip(current - per_image(move, current) * gradient)
        size, gradient = _distance_and_gradient(ball, current)
        outside = size > ball.bound
        descent.near[rows[~outside]] = current[~outside]
        descent.near_size[rows[~outside]] = size[~outside]
        descent.far[rows[outside]] = current[outside]
        descent.far_size[rows[outside]] = size[outside]
        descent.stayed_outside = rows[outside]
    return descent


@torch.enable_grad()
def _distance_and_gradient(ball: PerceptualRegion, params: Tensor) -> tuple[Tensor, Tensor]:
    """d at δ, `[n]`, and its gradient, which is not computed (and 0) when all points are inside."""
    params = params.detach().requires_grad_()
    distance = ball.feature_distance(params)
    if not (distance > ball.bound).any():
        return distance.detach(), torch.zeros_like(params)
    return distance.detach(), finite_gradient(distance, params)
