"""JPEG of ImageNet-UA: changes of the DCT coefficients of a full-resolution YCbCr image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gauntlet.data import Batch
from gauntlet.noise import Noise
from gauntlet.scopes import exact
from gauntlet.threats.colour import clamp_inclusive, mixed
from gauntlet.threats.cube import CubeRegion
from gauntlet.threats.dct import inverse_dct, to_planes
from gauntlet.threats.imagenet_ua.settings import check_bound, check_channels
from gauntlet.threats.jpeg import TO_RGB


@dataclass(frozen=True)
class UAJPEG:
    """All images whose DCT coefficients are at most the bound from those of x; clamped to [0, 1].

    JFIF's YCbCr, 8×8 blocks of orthonormal cosines, no subsampling and no quantisation. The transform is linear, so the
    change is transformed back and added to x.

    Args:
        bound: largest change of a coefficient of an image in [0, 1]: 3/255 is three units of a file.
    """

    identity: ClassVar[str] = "ua_jpeg/1"
    bound: float
    name: ClassVar[str] = "ua_jpeg"
    unit: ClassVar[str] = "L∞ of coefficients"

    def __post_init__(self) -> None:
        check_bound("ImageNet-UA's JPEG", self.bound, "3/255")

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> UAJPEGRegion:
        """The set around each image, gray or RGB. The classifier is not used."""
        check_channels("ImageNet-UA's JPEG", batch.images)
        return UAJPEGRegion(batch.images, self.bound)


@dataclass(frozen=True)
class UAJPEGRegion(CubeRegion):
    """The sets around one batch. The params are the changes, `[N, C·⌈H/8⌉·⌈W/8⌉, 64]`."""

    def zero(self) -> Tensor:
        """No change."""
        height, width = self._sides
        return self.images.new_zeros(len(self.images), self.images.shape[1] * height * width // 64, 64)

    def start(self, noise: Noise) -> Tensor:
        """Uniform between 0 and the bound, as published."""
        zero = self.zero()
        return noise.uniform(zero.shape, 0, self.bound).to(zero)

    def perturb(self, params: Tensor) -> Tensor:
        """x + the change, transformed back; in full precision under autocast too."""
        height, width = self.images.shape[2:]
        with exact():
            change = to_planes(inverse_dct(params), *self._sides)[:, :, :height, :width]
            if change.shape[1] == 3:
                change = mixed(change, TO_RGB)
        return clamp_inclusive(self.images + change, 0, 1)

    @property
    def _sides(self) -> tuple[int, int]:
        """Height and width in whole blocks; what is beyond the image is cut off."""
        height, width = self.images.shape[2:]
        return height + -height % 8, width + -width % 8
