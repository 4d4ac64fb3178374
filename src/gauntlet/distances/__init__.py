"""Distances between images, `[N]` ≥ 0."""

from gauntlet.distances.feature_distance import (
    LPIPS,
    Embedding,
    FeatureDistance,
    PerceptualDistance,
    SelfLPIPS,
    feature_distance,
    unit_features,
)
from gauntlet.distances.pixels import L2, SSIM, Linf

__all__ = [
    "L2",
    "LPIPS",
    "SSIM",
    "Embedding",
    "FeatureDistance",
    "Linf",
    "PerceptualDistance",
    "SelfLPIPS",
    "feature_distance",
    "unit_features",
]
