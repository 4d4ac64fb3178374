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

__all__ = ["LPIPS", "Embedding", "Perception", "PerceptualDistance", "SelfLPIPS", "apart", "unit_features"]
