"""A classifier as stages and a head, so that its feature maps can be tapped on the way to the logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Tapped(Protocol):
    """A classifier whose feature maps can be read: what φ, the embedding of a perceptual distance, is made of."""

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The feature maps, `[N, C_l, H_l, W_l]` each."""

    def tap(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The feature maps and the logits `[N, K]` from one forward."""


class Normalise(nn.Module):
    """(images − mean) / std per channel, inside the classifier: nothing outside ever normalises."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` in [0, 1] to the network's own units."""
        if images.shape[1] != len(self.mean):
            raise ValueError(f"images have {images.shape[1]} channels, this network expects {len(self.mean)}")
        return (images - self.mean) / self.std


class Staged(nn.Module):
    """Normalise, a chain of stages, a head.

    Args:
        normalise: images in [0, 1] to the first stage's input.
        stages: the output of each is a feature map for φ.
        head: the last feature map to logits.
    """

    def __init__(self, normalise: nn.Module, stages: Iterable[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.normalise, self.stages, self.head = normalise, nn.ModuleList(stages), head

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The output of every stage."""
        maps = []
        current = self.normalise(images)
        for stage in self.stages:
            current = stage(current)
            maps.append(current)
        return tuple(maps)

    def tap(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The output of every stage, and the logits `[N, K]`."""
        maps = self.features(images)
        return maps, self.head(maps[-1])

    def forward(self, images: Tensor) -> Tensor:
        """`[N, C, H, W]` in [0, 1] to logits `[N, K]`."""
        current = self.normalise(images)
        for stage in self.stages:
            current = stage(current)
        logits: Tensor = self.head(current)
        return logits
