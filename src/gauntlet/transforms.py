"""Images without a search: the clean images, and those of common corruptions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from gauntlet.checks import in_box
from gauntlet.data import Batch
from gauntlet.kinds import Kind
from gauntlet.noise import Noise


class Transform(ABC):
    """Computes one image per example from the example and its random numbers.

    A transform is its own threat model, of one image and without a bound, for suites and tables.
    """

    kind: ClassVar[Kind] = Kind.TRANSFORM
    bound: ClassVar[float] = 0.0
    unit: ClassVar[str] = ""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in tables: `clean`, `gaussian_noise`."""

    @property
    def threat_model(self) -> Self:
        """The transform itself."""
        return self

    @abstractmethod
    def __call__(self, batch: Batch, noise: Noise) -> Tensor:
        """The images `[N, C, H, W]` in [0, 1] of a batch."""

    @torch.no_grad()
    def verify(self, batch: Batch, noise: Noise, images: Tensor) -> Tensor:
        """Where images equal the transform of a batch and are in [0, 1], `[N]` booleans."""
        return (self(batch, noise) == images).flatten(1).all(1) & in_box(images)


@dataclass(frozen=True)
class Clean(Transform):
    """The clean images, so that clean accuracy is a column like the others."""

    identity: ClassVar[str] = "clean/1"
    name: ClassVar[str] = "clean"

    def __call__(self, batch: Batch, noise: Noise) -> Tensor:
        """`[N, C, H, W]` images, unchanged."""
        return batch.images
