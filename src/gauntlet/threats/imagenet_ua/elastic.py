"""Elastic of ImageNet-UA: pixels sampled at positions that a coarse field of displacements moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.threats.ball import BallRegion
from gauntlet.threats.imagenet_ua.settings import check_bound, check_counts
from gauntlet.threats.imagenet_ua.upsampling import upsampled
from gauntlet.threats.sampling import bilinear, framed, pixels


@dataclass(frozen=True)
class UAElastic:
    """All warps of x by a coarse field of displacements with ‖v‖₂ ≤ bound, enlarged bicubically; black beyond the edge.

    As published, positions run from one edge of the image to the other while pixels are sampled at their centres: the
    zero image is x enlarged by (side − 1) / side towards the edges, which moves a pixel by at most half a pixel.

    Args:
        bound: largest L2 norm of the field, where the image spans [-1, 1].
        upsampling: pixels per number of the field, along either axis: 2 at 32 × 32, 32 at 224 × 224.
    """

    identity: ClassVar[str] = "ua_elastic/1"
    bound: float
    upsampling: int
    name: ClassVar[str] = "ua_elastic"
    unit: ClassVar[str] = "L2 of displacements"

    def __post_init__(self) -> None:
        check_bound("ImageNet-UA's elastic", self.bound, "0.25")
        check_counts("ImageNet-UA's elastic", {"upsampling": self.upsampling})

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UAElasticRegion:
        """The warps of each image. The classifier is not used."""
        return UAElasticRegion(batch.images, self.bound, framed(batch.images), self.upsampling)


@dataclass(frozen=True)
class UAElasticRegion(BallRegion):
    """The warps of one batch. The params are the field, `[N, 2, ⌈H/f⌉, ⌈W/f⌉]`: to the right, then down."""

    frame: Tensor
    """`[N, C, H + 2, W + 2]`, the images in a black frame one pixel wide."""
    upsampling: int

    def zero(self) -> Tensor:
        """No displacement."""
        height, width = (-(-side // self.upsampling) for side in self.images.shape[2:])
        return self.images.new_zeros(len(self.images), 2, height, width)

    def start(self, noise: Noise) -> Tensor:
        """Uniform in [-1, 1], projected into the ball."""
        zero = self.zero()
        return self.project(noise.uniform(zero.shape, -1, 1).to(zero))

    def perturb(self, params: Tensor) -> Tensor:
        """The warped images."""
        height, width = self.images.shape[2:]
        field = upsampled(params, height, width, "bicubic")
        x = _published(pixels(width, params), width) + field[:, :1] * (width / 2)
        y = _published(pixels(height, params), height)[:, None] + field[:, 1:] * (height / 2)
        return bilinear(self.frame, x, y)


def _published(position: Tensor, count: int) -> Tensor:
    """The position at which a pixel is sampled without displacement, −½ … count − ½."""
    return position * (count / max(1, count - 1)) - 0.5
