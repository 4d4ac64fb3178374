"""Checks of the fields of these threat models, and of the images they take."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from gauntlet.threats.colour import mixed

LUMA = (0.2126, 0.7152, 0.0722)
"""The weights of BT.709 luma."""


def check_bound(name: str, bound: float, example: str) -> None:
    """Raise ValueError unless a bound is a finite number ≥ 0."""
    if not 0 <= bound < math.inf:
        raise ValueError(f"{name} bound {bound} is not a finite number ≥ 0: write {example}")


def check_counts(name: str, counts: Mapping[str, float]) -> None:
    """Raise ValueError unless all numbers are positive."""
    for field, count in counts.items():
        if not 0 < count < math.inf:
            raise ValueError(f"{name} {field} {count}: expected a positive number")


def check_shares(name: str, shares: Mapping[str, float]) -> None:
    """Raise ValueError unless all numbers are in [0, 1]."""
    for field, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} {field} {share}: expected a share in [0, 1]")


def check_channels(name: str, images: Tensor) -> None:
    """Raise ValueError unless images are gray or RGB."""
    if images.shape[1] not in (1, 3):
        raise ValueError(f"{name} needs images of 1 channel (gray) or 3 (RGB), not {images.shape[1]}")


def luma(images: Tensor) -> Tensor:
    """The brightness of `[N, 1 or 3, …]` images, `[N, 1, …]`; gray is its own."""
    return images if images.shape[1] == 1 else mixed(images, (LUMA,))
