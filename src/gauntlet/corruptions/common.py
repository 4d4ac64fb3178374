"""Common corruptions as transforms: one corrupted image per example, drawn from its random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gauntlet.corruptions.digital import JPEGCompression
from gauntlet.corruptions.operation import Operation, as_levels
from gauntlet.data import Batch
from gauntlet.data.examples import unit
from gauntlet.noise import Noise
from gauntlet.transforms import Transform

TYPES = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The fifteen types of the benchmark, in its order."""
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class GeneratedCorruption(Transform):
    """A corruption that is computed when it is needed.

    Args:
        type: one of `TYPES`.
        severity: from 1 to 5.
        operation: the operation on the images.
        jpeg: quality at which the corrupted picture is saved, as those of ImageNet-C were (85); None for not at all.
    """

    identity: ClassVar[str] = "generated_corruption/1"
    type: str
    severity: int
    operation: Operation
    jpeg: int | None = None
    source: ClassVar[str] = "generated"

    def __post_init__(self) -> None:
        check_type(self.type, self.severity)

    @property
    def name(self) -> str:
        """The type."""
        return self.type

    @torch.no_grad()
    def __call__(self, batch: Batch, noise: Noise) -> Tensor:
        """`[N, C, H, W]` whole 255ths, each a function of its own clean image and seed.

        Clean images that are not whole 255ths are rounded first.
        """
        clean = (batch.images.detach().cpu().double() * 255).round() / 255
        draws = Noise(noise.seeds.cpu())
        corrupted = as_levels(self.operation(clean, draws))
        if self.jpeg is not None:
            corrupted = as_levels(JPEGCompression(self.jpeg)(corrupted.double() / 255, draws))
        return unit(corrupted).to(batch.images)


def check_type(kind: str, severity: int) -> None:
    """Raise ValueError unless the benchmark has this type and severity."""
    if kind not in TYPES or severity not in SEVERITIES:
        raise ValueError(f"corruption {kind} at severity {severity}: expected 1 to 5 of {', '.join(TYPES)}")
