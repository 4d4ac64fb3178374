"""Distances without a network: L∞, L2 and structural dissimilarity, for measuring and reporting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gauntlet.distances.feature_distance import Embedding, FeatureDistance

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for images in [0, 1]


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
    window of 11×11 pixels with σ = 1.5, C₁ = 0.01² and C₂ = 0.03²; zero padding; the mean over an image.
    """

    identity: ClassVar[str] = "ssim/1"
    name: ClassVar[str] = "ssim"

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """1 − SSIM of `[N, C, H, W]` images in [0, 1], `[N]`."""
        return 1 - ssim_map(images, others).mean((1, 2, 3))

    def bind(self, classifier: nn.Module | None) -> NoReturn:
        """Raise TypeError: there is no φ."""
        _refuse(self.name, "it measures only")


def ssim_map(images: Tensor, others: Tensor) -> Tensor:
    """SSIM around every pixel, `[N, C, H, W]`, in float32 at least."""
    x, y = (batch if batch.dtype == torch.float64 else batch.float() for batch in (images, others))
    mean_x, mean_y = _filtered(x), _filtered(y)
    variance_x, variance_y = _filtered(x * x) - mean_x**2, _filtered(y * y) - mean_y**2
    covariance = _filtered(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance * (2 * covariance + _C2) / (variance_x + variance_y + _C2)


def _filtered(images: Tensor) -> Tensor:
    """Filter each channel with the Gaussian window, with zero padding."""
    offsets = torch.arange(_WINDOW, dtype=images.dtype, device=images.device) - _WINDOW // 2
    kernel = (-(offsets**2) / (2 * _SIGMA**2)).exp()
    kernel = kernel / kernel.sum()
    flat = images.reshape(-1, 1, *images.shape[2:])
    rows = F.conv2d(flat, kernel.reshape(1, 1, 1, -1), padding=(0, _WINDOW // 2))
    return F.conv2d(rows, kernel.reshape(1, 1, -1, 1), padding=(_WINDOW // 2, 0)).reshape(images.shape)


def _refuse(name: str, instead: str) -> NoReturn:
    raise TypeError(
        f"the distance {name} has no embedding φ, which a perceptual attack needs ({instead}):"
        f" choose distance=lpips_self, another lpips_…, or l2"
    )
