"""Flow fields: every pixel is sampled at a displaced position.

Xiao et al., "Spatially transformed adversarial examples", ICLR 2018; the constraint of Jordan et al., "Quantifying
perceptual distortion of adversarial examples", 2019, which Laidlaw et al. 2021 attack with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.threats.sampling import bilinear, framed, pixels
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
        return FlowRegion(batch.images, self.bound, self.smoothness, self.spread, framed(batch.images))


@dataclass(frozen=True)
class FlowRegion(FieldRegion):
    """The warps of one batch. The params are the flow, `[N, 2, H, W]`: to the right, then down."""

    frame: Tensor
    """`[N, C, H + 2, W + 2]`, the images in a black frame one pixel wide."""

    def zero(self) -> Tensor:
        """No flow."""
        return self.images.new_zeros(len(self.images), 2, *self.images.shape[2:])

    def perturb(self, params: Tensor) -> Tensor:
        """The warped images. Positions are in pixels from the first centre, so that zero flow gives x exactly."""
        height, width = self.images.shape[2:]
        x = params[:, :1] * (width / 2) + pixels(width, params)
        y = params[:, 1:] * (height / 2) + pixels(height, params)[:, None]
        return bilinear(self.frame, x, y)

    def project(self, params: Tensor) -> Tensor:
        """The nearest flow inside the bound that samples no position beyond the edge."""
        height, width = self.images.shape[2:]
        from_left = (2 * pixels(width, params) + 1) / width
        from_top = (2 * pixels(height, params) + 1) / height
        from_edge = torch.stack(torch.meshgrid(from_left, from_top, indexing="xy"))
        return params.clamp(min=(-from_edge).clamp(min=-self.bound), max=(2 - from_edge).clamp(max=self.bound))
