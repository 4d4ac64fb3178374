"""The interfaces of threat models and regions.

A threat model is the set T(x, ρ) of images that an adversary may choose instead of x; a region is that set around one
batch, with everything about the clean images computed once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from gauntlet.checks import in_box
from gauntlet.data import Batch
from gauntlet.models import logits_and_surrogate
from gauntlet.noise import Noise
from gauntlet.tolerance import TOLERANCE


class ForwardPass(NamedTuple):
    """The outputs of one forward pass for n candidates."""

    logits: Tensor
    """`[n, K]`, with their graph."""
    distance: Tensor | None = None
    """`[n]`, where the region measures candidates with a network; None where it needs only the params."""
    embedding: tuple[Tensor, ...] = ()
    """The candidates' φ, one map per layer."""
    surrogate: Tensor | None = None
    """`[n, K]`, with their graph: the logits of the classifier's surrogate, where it has one."""

    @property
    def ascent_logits(self) -> Tensor:
        """`[n, K]`: the logits to ascend, the surrogate's or the classifier's own."""
        return self.logits if self.surrogate is None else self.surrogate


@dataclass(frozen=True)
class Region(ABC):
    """T(x, ρ) around each of N images. `params` is one float tensor `[N, …]` that determines the images.

    A subclass is a frozen dataclass; its tensors, its batches and its tuples of them have N rows. A region that needs
    labels, ids or codes keeps them.
    """

    flat_at_zero: ClassVar[bool] = False
    """Whether the images have no gradient at zero params by construction, such as a power of the params."""
    images: Tensor
    """`[N, C, H, W]` in [0, 1]."""
    bound: float
    """ρ, in the threat model's own unit."""

    @abstractmethod
    def zero(self) -> Tensor:
        """The params of x itself (or of the documented zero image)."""

    @abstractmethod
    def start(self, noise: Noise) -> Tensor:
        """The start of a search."""

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
        """The distance of the params' images from x in the threat model's own unit, `[N]` float64, for any bound.

        By default the size times the bound. At a bound of 0 that is undefined, and the size itself is returned; a
        region whose bound may be 0 should measure the params.
        """
        size = self.size(params).double()
        return size * self.bound if self.bound else size

    def extent(self, params: Tensor) -> float | Tensor:
        """The extent of the params, per number where it differs; steps without a geometry are scaled by it."""
        return self.bound

    def penalty(self, params: Tensor) -> Tensor:
        """A penalty for rough params, `[N]` ≥ 0; 0 by default."""
        return params.new_zeros(len(params))

    def forward(self, classifier: nn.Module, params: Tensor) -> ForwardPass:
        """One forward at the params."""
        logits, surrogate = logits_and_surrogate(classifier, self.perturb(params))
        return ForwardPass(logits, surrogate=surrogate)

    def inside(self, params: Tensor, output: ForwardPass) -> Tensor:
        """Where candidates, given their outputs, are in T(x, ρ), `[n]`; by default all, as for projected params."""
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
    """A size as a share of the bound; a size of 0 is 0, at a bound of 0 as well."""
    return torch.where(size > 0, size / bound, size)


def contained(images: Tensor, size: Tensor) -> Tensor:
    """Where `[N, C, H, W]` images are in [0, 1] and their size, a share of the bound, is at most 1, `[N]`.

    A search may use half of the tolerance only: the result is measured again in another batch, with other rounding.
    """
    return in_box(images) & (size <= 1 + TOLERANCE / 2)


@runtime_checkable
class ThreatModel(Protocol):
    """A set of images an adversary may choose: a frozen dataclass with a name, a bound and its unit."""

    @property
    def name(self) -> str:
        """The name in tables: `linf`, `l2`, `perceptual`."""

    @property
    def bound(self) -> float:
        """ρ, in the threat model's own unit."""

    @property
    def unit(self) -> str:
        """The unit of bounds, radii and distances in table headers: `L2`, `LUV`; empty if there is none."""


@runtime_checkable
class SearchableThreatModel(ThreatModel, Protocol):
    """A threat model that can be searched."""

    def around(self, batch: Batch, classifier: nn.Module | None = None) -> Region:
        """The region around a batch; only perceptual distances of the classifier itself use it."""
