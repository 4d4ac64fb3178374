"""The interface of corruption operations: one kind of corruption at one strength.

Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR 2019.
Every operation is computed on the CPU in double precision, and no pixel depends on the other images of the batch.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from gauntlet.noise import Noise


class Operation(Protocol):
    """A frozen dataclass of the numbers that define the strength."""

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Corrupt a batch.

        Args:
            images: `[N, 1 or 3, H, W]` float64, whole 255ths in [0, 1].
            noise: random numbers of N examples, the only source of randomness.

        Returns:
            Float64 of the same shape. Values are clipped to [0, 1] and truncated to 255 levels by the caller.
        """


def as_levels(images: Tensor) -> Tensor:
    """Return images in [0, 1] as bytes: clipped, and truncated as by the benchmark's authors."""
    return (images.clamp(0, 1) * 255).byte()
