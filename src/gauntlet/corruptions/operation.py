"""What a corruption is: one way in which pictures get worse, at one strength.

Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR 2019.
Every operation is computed on the CPU in double precision, and no pixel depends on the other images of the batch.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from gauntlet.noise import Noise


class Operation(Protocol):
    """A frozen dataclass of the numbers that make the strength."""

    def __call__(self, images: Tensor, noise: Noise) -> Tensor:
        """Corrupt a batch.

        Args:
            images: `[N, 1 or 3, H, W]` float64, whole 255ths in [0, 1].
            noise: of N examples; whatever is left to chance comes from it.

        Returns:
            Float64 of the same shape; what leaves [0, 1] is clipped and what lies between two levels cut off later.
        """


def as_levels(images: Tensor) -> Tensor:
    """Images in [0, 1] as the bytes of a picture file: clipped, and cut off as the benchmark's authors did."""
    return (images.clamp(0, 1) * 255).byte()
