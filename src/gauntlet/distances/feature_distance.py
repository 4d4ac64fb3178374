"""The neural perceptual distance of perceptual adversarial training (Laidlaw et al. 2021, §3).

φ(x) stacks the feature maps of a network, each normalised over its channels at every position and divided by √(H·W);
d(x, x') = ‖φ(x) − φ(x')‖₂. Unlike the LPIPS of the `lpips` package it has no learned weights and is a square root, so
the triangle inequality holds. φ is never concatenated: it stays one map per layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from gauntlet.models import Tapped, features_of, tap_of

Embedding = tuple[Tensor, ...]


def unit_features(features: tuple[Tensor, ...]) -> Embedding:
    """φ from feature maps `[N, C_l, H_l, W_l]`, in float32 at least.

    A position whose channels are all zero stays zero, with zero gradient, so that dead ReLUs do not give NaN.
    """
    return tuple(_unit(layer if layer.dtype == torch.float64 else layer.float()) for layer in features)


def _unit(layer: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(layer, dim=1, keepdim=True)
    positions = layer.shape[2] * layer.shape[3]
    return layer * torch.where(length > 0, 1 / ((length + 1e-10) * positions**0.5), 0)


def feature_distance(embedding: Embedding, other: Embedding) -> Tensor:
    """‖φ − φ'‖₂ over all layers, `[N]`; 0 for equal ones, where its gradient is 0."""
    layers = [torch.linalg.vector_norm(a - b, dim=(1, 2, 3)) for a, b in zip(embedding, other, strict=True)]
    return torch.linalg.vector_norm(torch.stack(layers), dim=0)


@dataclass(frozen=True)
class FeatureDistance:
    """The distance by the features of one tapped network, which is neither frozen nor moved."""

    identity: ClassVar[str] = "feature_distance/1"
    network: nn.Module

    def __post_init__(self) -> None:
        if not isinstance(self.network, Tapped):
            raise TypeError(
                f"a perceptual distance needs a network with taps (features and tap), {type(self.network).__name__}"
                f" has none: choose a model with taps, or a distance with a network of its own"
            )

    def embed(self, images: Tensor) -> Embedding:
        """φ of `[N, C, H, W]` images in [0, 1]: one float32 map per layer."""
        return unit_features(features_of(self._tapped(images), images))

    def tap(self, images: Tensor) -> tuple[Embedding, Tensor]:
        """φ and the network's logits `[N, K]` from one forward."""
        features, logits = tap_of(self._tapped(images), images)
        return unit_features(features), logits

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """d, `[N]` ≥ 0."""
        return feature_distance(self.embed(images), self.embed(others))

    def _tapped(self, images: Tensor) -> Tapped:
        if self.network.training:
            raise RuntimeError("φ of a network in train mode depends on the rest of the batch: call .eval() first")
        return cast(Tapped, self.network)


@dataclass(frozen=True)
class LPIPS(FeatureDistance):
    """The distance by a fixed network, which is moved to the device of the images and never trained.

    Args:
        network: tapped; put in eval mode and frozen.
    """

    identity: ClassVar[str] = "lpips/1"
    name: ClassVar[str] = "lpips"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.network.eval().requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)  # faster convolutions; equal up to float32 rounding

    def bind(self, classifier: nn.Module | None) -> FeatureDistance:
        """This distance, for any classifier."""
        return self

    def _tapped(self, images: Tensor) -> Tapped:
        weights = next(chain(self.network.parameters(), self.network.buffers()), images)
        if weights.device != images.device:
            self.network.to(images.device)
        return super()._tapped(images)


@dataclass(frozen=True)
class SelfLPIPS:
    """The distance by the features of the classifier under attack, whose weights change in training (PAT-self)."""

    identity: ClassVar[str] = "lpips_self/1"
    name: ClassVar[str] = "lpips_self"

    def bind(self, classifier: nn.Module | None) -> FeatureDistance:
        """The distance by the classifier's features."""
        if classifier is None:
            raise ValueError("lpips_self is the distance of the classifier under attack, and none was given")
        return FeatureDistance(classifier)


class PerceptualDistance(Protocol):
    """The distance of a perceptual threat model: `LPIPS`, `SelfLPIPS`, or a class of your own."""

    @property
    def name(self) -> str:
        """The name in reports."""

    def bind(self, classifier: nn.Module | None) -> FeatureDistance:
        """The distance when this classifier is attacked."""
