"""Flow fields: every pixel is sampled at a displaced position.

Xiao et al., "Spatially transformed adversarial examples", ICLR 2018; the constraint of Jordan et al., "Quantifying
perceptual distortion of adversarial examples", 2019, which Laidlaw et al. 2021 attack with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gauntlet.data import Batch
from gauntlet.threats.smoothness import FieldRegion, check_field
from gauntlet.varied import SPREAD


@dataclass(frozen=True)
class StAdv:
    """All images whose pixel at p is the bilinear sample of x at p + flow(p), every component of |flow| ≤ bound.

    The image is padded with black, and no sample is taken beyond its outer edge, half a pixel from the centres of the
    border pixels: a border pixel becomes at most half black, a corner pixel three quarters.

    Args:
        bound: largest displacement along either axis, where the image spans [-1, 1] from edge to edge:
            0.05 is 0.8 pixel at 32 × 32 and 5.6 pixels at 224 × 224.
        smoothness: weight of the penalty for rough flows, times bound: the penalty is smoothness / bound · S (0.05 · S
            at bound 0.05 in the paper). 0 is no penalty.
        spread: a search starts at a flow uniform within this share of the bound. The paper starts at the identity,
            0; with restarts use more, or they are all the same.
    """

    identity: ClassVar[str] = "stadv/1"
    bound: float
    smoothness: float = field(default=0.0025, compare=False)  # both guide a search; the set of images is the same
    spread: float = field(default=0.0, compare=False, metadata=SPREAD)
    name: ClassVar[str] = "stadv"
    unit: ClassVar[str] = "half image sides"

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= 1:
            raise ValueError(
                f"StAdv bound {self.bound} is not in [0, 1]: the image spans [-1, 1]; write 0.05, not 0.8 pixel"
            )
        check_field(self.smoothness, self.spread)

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> FlowRegion:
        """The flows of each image. The classifier is not used."""
        framed = F.pad(batch.images, (1, 1, 1, 1)).flatten(2)
        return FlowRegion(batch.images, self.bound, self.smoothness, self.spread, framed)


@dataclass(frozen=True)
class FlowRegion(FieldRegion):
    """The warps of one batch. The params are the flow, `[N, 2, H, W]`: to the right, then down."""

    framed: Tensor
    """`[N, C, (H + 2)(W + 2)]`, the images in a black frame one pixel wide."""

    def zero(self) -> Tensor:
        """No flow."""
        return self.images.new_zeros(len(self.images), 2, *self.images.shape[2:])

    def perturb(self, params: Tensor) -> Tensor:
        """The warped images. Positions are in pixels from the first centre, so that zero flow gives x exactly."""
        height, width = self.images.shape[2:]
        left, right = _between(params[:, 0] * (width / 2) + _steps(params, width), width)
        upper, lower = _between(params[:, 1] * (height / 2) + _steps(params, height)[:, None], height)
        corner = ((upper + 1) * (width + 2) + left + 1).long().flatten(1)[:, None].expand(-1, self.images.shape[1], -1)

        def neighbours(offset: int) -> Tensor:
            return self.framed.gather(2, corner + offset).reshape(self.images.shape)

        top = neighbours(0).lerp(neighbours(1), right[:, None])
        bottom = neighbours(width + 2).lerp(neighbours(width + 3), right[:, None])
        return top.lerp(bottom, lower[:, None])

    def project(self, params: Tensor) -> Tensor:
        """The nearest flow inside the bound that samples no position beyond the edge."""
        height, width = self.images.shape[2:]
        from_left = (2 * _steps(params, width) + 1) / width
        from_top = (2 * _steps(params, height) + 1) / height
        from_edge = torch.stack(torch.meshgrid(from_left, from_top, indexing="xy"))
        return params.clamp(min=(-from_edge).clamp(min=-self.bound), max=(2 - from_edge).clamp(max=self.bound))


def _steps(params: Tensor, count: int) -> Tensor:
    """0, 1, … count − 1."""
    return torch.arange(count, dtype=params.dtype, device=params.device)


def _between(position: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The pixel before a position, −1 … count − 1, and the fraction of the position towards the next pixel."""
    position = position.clamp(-1, count)
    before = position.detach().floor().clamp(max=count - 1)
    return before, position - before
