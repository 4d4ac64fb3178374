"""Distances without a network: L∞, L2 and structural dissimilarity, for measuring and reporting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gauntlet.checks import at_least_float32
from gauntlet.distances.feature_distance import Embedding, FeatureDistance

_RADIUS = 5  # pixels, of SSIM's window


@dataclass(frozen=True)
class L2(FeatureDistance):
    """‖x − x'‖₂ over all pixels of an image, in [0, 1] pixel units: the distance whose φ(x) is x."""

    identity: ClassVar[str] = "l2_distance/1"
    network: nn.Module = field(default_factory=nn.Identity, init=False)
    name: ClassVar[str] = "l2"

    def __post_init__(self) -> None:
        """Skip the check for taps."""

    def bind(self, classifier: nn.Module | None) -> FeatureDistance:
        """This distance, for any classifier."""
        return self

    def embed(self, images: Tensor) -> Embedding:
        """The images themselves, in float32 at least."""
        return (images if images.dtype == torch.float64 else images.float(),)


@dataclass(frozen=True)
class Linf:
    """The largest change of any pixel, in [0, 1] pixel units."""

    identity: ClassVar[str] = "linf_distance/1"
    name: ClassVar[str] = "linf"

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """max |x − x'|, `[N]`."""
        return (images - others).abs().amax((1, 2, 3))

    def bind(self, classifier: nn.Module | None) -> NoReturn:
        """Raise TypeError: there is no φ."""
        _refuse(self.name, "threat_model=linf is its ball")


@dataclass(frozen=True)
class SSIM:
    """1 − SSIM, structural dissimilarity: 0 for equal images, at most 2.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004: a Gaussian
    window of 11×11 pixels with σ = 1.5, C₁ = 0.01² and C₂ = 0.03²; the mean over an image, black beyond its border.
    """

    identity: ClassVar[str] = "ssim/1"
    name: ClassVar[str] = "ssim"

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """1 − SSIM of `[N, C, H, W]` images in [0, 1], `[N]`."""
        from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

        if not len(images):  # torchmetrics takes no empty batch
            return at_least_float32(images).new_zeros(0)
        x, y = (F.pad(at_least_float32(batch), (_RADIUS,) * 4) for batch in (images, others))
        _, local = structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
        return 1 - local[..., _RADIUS:-_RADIUS, _RADIUS:-_RADIUS].mean((1, 2, 3))

    def bind(self, classifier: nn.Module | None) -> NoReturn:
        """Raise TypeError: there is no φ."""
        _refuse(self.name, "it measures only")


def _refuse(name: str, instead: str) -> NoReturn:
    raise TypeError(
        f"the distance {name} has no embedding φ, which a perceptual attack needs ({instead}):"
        f" choose distance=lpips_self, another lpips_…, or l2"
    )
