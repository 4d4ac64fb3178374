"""Distances between images, `[N]` ≥ 0."""

from gauntlet.distances.perception import (
    LPIPS,
    Embedding,
    Perception,
    PerceptualDistance,
    SelfLPIPS,
    apart,
    unit_features,
)
from gauntlet.distances.pixels import L2, SSIM, Linf

__all__ = [
    "L2",
    "LPIPS",
    "SSIM",
    "Embedding",
    "Linf",
    "Perception",
    "PerceptualDistance",
    "SelfLPIPS",
    "apart",
    "unit_features",
]
