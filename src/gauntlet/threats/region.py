"""The contract between what an adversary may do and how it is searched.

A threat model is the set T(x, ρ) of images that may be shown instead of x; a region is that set around one batch,
with everything about the clean images computed once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from gauntlet.checks import TOLERANCE, in_box
from gauntlet.data import Batch
from gauntlet.models import answers_of
from gauntlet.noise import Noise


class ForwardPass(NamedTuple):
    """What one forward pass tells about n candidates."""

    logits: Tensor
    """`[n, K]`, with their graph."""
    distance: Tensor | None = None
    """`[n]`, where the region measures the candidates with a network; None where the params tell."""
    embedding: tuple[Tensor, ...] = ()
    """The candidates' φ, one map per layer."""
    surrogate: Tensor | None = None
    """`[n, K]`, with their graph: the logits of the classifier's surrogate, where it has one."""

    @property
    def ascent_logits(self) -> Tensor:
        """`[n, K]`: what gradients climb, the surrogate's logits or the classifier's own."""
        return self.logits if self.surrogate is None else self.surrogate


@dataclass(frozen=True)
class Region(ABC):
    """T(x, ρ) around each of N images. `params` is one float tensor `[N, …]` from which the images are made.

    A subclass is a frozen dataclass; its tensors, its batches and its tuples of them have N rows. Labels, ids or codes
    are kept by those regions that need them.
    """

    images: Tensor
    """`[N, C, H, W]` in [0, 1]."""
    bound: float
    """ρ, in the threat model's own unit."""

    @abstractmethod
    def zero(self) -> Tensor:
        """The params of x itself (or of the documented zero image)."""

    @abstractmethod
    def start(self, noise: Noise) -> Tensor:
        """Where a search begins."""

    @abstractmethod
    def perturb(self, params: Tensor) -> Tensor:
        """The images of the params, `[N, C, H, W]`, differentiable."""

    @abstractmethod
    def project(self, params: Tensor) -> Tensor:
        """Params inside the bound whose images are in [0, 1]."""

    @abstractmethod
    def ascend(self, params: Tensor, gradient: Tensor, step: float) -> Tensor:
        """Steepest ascent in the region's own geometry, `step` bounds long."""

    @abstractmethod
    def size(self, params: Tensor) -> Tensor:
        """`[N]` as a share of the bound: 1 = on it."""

    def distance(self, params: Tensor) -> Tensor:
        """How far the params' images are from x in the threat model's own unit, `[N]` float64, whatever the bound is.

        This one is the size times the bound. At a bound of 0 there is no size to tell: the distance is 0 where the size
        is, and elsewhere what `size` gives there. A region whose bound may be 0 measures the params themselves.
        """
        size = self.size(params).double()
        return size * self.bound if self.bound else size

    def extent(self, params: Tensor) -> float | Tensor:
        """How far params can go, number by number where they differ: what step rules without a geometry scale by."""
        return self.bound

    def penalty(self, params: Tensor) -> Tensor:
        """`[N]` ≥ 0, what a threat model charges for rough params; nothing by default."""
        return params.new_zeros(len(params))

    def forward(self, classifier: nn.Module, params: Tensor) -> ForwardPass:
        """One forward at the params."""
        logits, surrogate = answers_of(classifier, self.perturb(params))
        return ForwardPass(logits, surrogate=surrogate)

    def inside(self, params: Tensor, output: ForwardPass) -> Tensor:
        """Where candidates and what was seen of them belong to T(x, ρ), `[n]`; projected params always do."""
        return torch.ones(len(params), dtype=torch.bool, device=params.device)

    def rows(self, keep: Tensor) -> Self:
        """The regions of some of the examples; `keep` is a mask or indices over N."""
        return replace(self, **{f.name: _rows(getattr(self, f.name), keep) for f in fields(self)})


def _rows(value: Any, keep: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[keep]
    if isinstance(value, Batch):
        return value.rows(keep)
    if isinstance(value, tuple):
        return tuple(_rows(part, keep) for part in value)
    return value


def share(size: Tensor, bound: float) -> Tensor:
    """A size as a share of the bound; nothing is a share of 0 of any bound, 0 included."""
    return torch.where(size > 0, size / bound, size)


def contained(images: Tensor, size: Tensor) -> Tensor:
    """Where `[N, C, H, W]` images are in [0, 1] and their size, a share of the bound, is at most 1, `[N]`.

    A search is held to half of the tolerance: who measures its find in another batch may round the other way.
    """
    return in_box(images) & (size <= 1 + TOLERANCE / 2)


@runtime_checkable
class ThreatModel(Protocol):
    """What the adversary may do: a frozen dataclass of plain values with a name, a bound and its unit."""

    @property
    def name(self) -> str:
        """As in tables: `linf`, `l2`, `perceptual`."""

    @property
    def bound(self) -> float:
        """ρ, in the threat model's own unit."""

    @property
    def unit(self) -> str:
        """Of the bound, of a radius and of a distance, as in table headers: `L2`, `LUV`; empty for what has none."""


@runtime_checkable
class SearchableThreatModel(ThreatModel, Protocol):
    """A threat model that can be searched."""

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> Region:
        """The region around a batch; only self-bounded threat models look at the classifier."""
