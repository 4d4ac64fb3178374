"""How a search that wanders outside its region comes back.

Bisection and Newton's method are those of Laidlaw et al., "Perceptual Adversarial Robustness", ICLR 2021, appendix A,
on examples one by one, and up to the surface of the ball: of the bound they leave 0.2 % unused.
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
    """Params to params inside the region, or an honest refusal to promise that."""

    @property
    def promises(self) -> bool:
        """Whether what comes back is inside."""

    def __call__(self, region: Region, params: Tensor) -> Tensor:
        """Params `[N, …]` to params `[N, …]`."""


@dataclass(frozen=True)
class NoProjection:
    """Stay where the penalty left you: what perceptual adversarial training does."""

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
        """The nearest params inside, as the region measures it."""
        return region.project(params)


@dataclass(frozen=True)
class Bisection:
    """Straight back towards x, onto the surface of a perceptual ball. Points inside stay; costs 1F and 2F to 5F.

    Args:
        waste: what may be left of the bound, as a share of it.
        probes: the most forwards of φ an example gets.
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
        """As in `PerceptualRegion.bisect`."""
        return perceptual(region).bisect(params, self.waste, self.probes)


@dataclass(frozen=True)
class Newton:
    """Down the slope of d, onto the surface of a perceptual ball, with a bisection between the last two points.

    Where bisection gives up on all of δ alike, this gives up what φ sees most of. Costs 1F, and 1F + 1B a step for
    those outside. Those who do not come inside go straight back towards x.

    Args:
        waste: what may be left of the bound, as a share of it.
        steps: the most moves an example gets.
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
        """Params `[N, C, H, W]` to params on the surface, or where they were inside."""
        ball = perceptual(region)
        way = _descended(ball, params, ball.bound * (1 - self.waste / 2), 1.0, self.steps)
        rows = way.began_outside
        if len(rows):
            ends = way.near[rows], way.near_size[rows], way.far[rows], way.far_size[rows]
            way.near[rows] = ball.rows(rows).cross(*ends, self.waste)
        return way.near


@dataclass(frozen=True)
class OvershootingNewton:
    """Newton's method as published: each move goes 1.1 times as far as d − bound + 0.1 asks for.

    It leaves a tenth in d of the bound unused, 20 to 45 % of the published bounds. Those still outside at the end go
    straight back towards x from where they were.

    Args:
        overshoot: added to d − bound, in units of d.
        factor: on the whole move.
        steps: the most moves an example gets.
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
        """Params `[N, C, H, W]` to params well inside, or where they were inside."""
        ball = perceptual(region)
        way = _descended(ball, params, ball.bound - self.overshoot, self.factor, self.steps)
        rows = way.stayed_outside
        if len(rows):
            way.near[rows] = ball.rows(rows).bisect(params[rows])
        return way.near


@dataclass
class _Way:
    """Where Newton's method led N examples."""

    near: Tensor
    """The first δ inside; 0 where none was."""
    near_size: Tensor
    """d at `near`, `[N]`."""
    far: Tensor
    """The last δ outside, if any."""
    far_size: Tensor
    """d at `far`, `[N]`."""
    began_outside: Tensor
    """Indices of those who moved."""
    stayed_outside: Tensor
    """Indices of those who never came inside."""


def _descended(ball: PerceptualRegion, params: Tensor, aim: float, factor: float, steps: int) -> _Way:
    """Newton's method on d = aim for those outside: δ ← clip(δ − factor·(d − aim)·∇d/‖∇d‖²) until d ≤ bound."""
    here = ball.clip(params)
    rows = torch.arange(len(here), device=here.device)
    size, downhill = _slope(ball, here)
    outside = size > ball.bound
    near = torch.where(per_image(outside, here), 0, here)
    way = _Way(near, torch.where(outside, 0, size), here.clone(), size.clone(), rows[outside], rows[outside])
    for _ in range(steps):
        if not outside.any():
            break
        if not outside.all():
            here, size, downhill = here[outside], size[outside], downhill[outside]
            rows, ball = rows[outside], ball.rows(outside)
        steepness = downhill.flatten(1).square().sum(1)
        move = torch.where(steepness > 0, factor * (size - aim) / steepness.clamp(min=1e-30), 0)
        here = ball.clip(here - per_image(move, here) * downhill)
        size, downhill = _slope(ball, here)
        outside = size > ball.bound
        way.near[rows[~outside]], way.near_size[rows[~outside]] = here[~outside], size[~outside]
        way.far[rows[outside]], way.far_size[rows[outside]] = here[outside], size[outside]
        way.stayed_outside = rows[outside]
    return way


@torch.enable_grad()
def _slope(ball: PerceptualRegion, params: Tensor) -> tuple[Tensor, Tensor]:
    """d at δ, `[n]`, and its gradient, which is not computed (and 0) where nobody is outside."""
    params = params.detach().requires_grad_()
    distance = ball.feature_distance(params)
    if not (distance > ball.bound).any():
        return distance.detach(), torch.zeros_like(params)
    return distance.detach(), finite_gradient(distance, params)
