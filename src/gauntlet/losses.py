"""How far logits have left a class, or come to one: what attacks climb.

Losses stay `[N]`: no example's numbers depend on its batch-mates'. A logit of −∞ marks a class that does not exist,
which is nobody's rival.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

_FLAT = 1e-12  # least gap between logits: where all are alike the lead is 0 as well


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """The lead of a class over the best of the others, `[N]`; negative where another class leads, ∞ without any other.

    Args:
        logits: `[N, K]`, K ≥ 2.
        classes: `[N]`.
    """
    if logits.shape[1] < 2:
        raise ValueError(f"a margin needs at least 2 classes, the classifier has {logits.shape[1]}")
    own = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return difference(own, others.amax(1))


def difference(logits: Tensor, others: Tensor) -> Tensor:
    """How far logits are ahead of others, of any shape; 0 between infinities of one sign."""
    return torch.where(logits.isinf() & (logits == others), 0, logits - others)


@runtime_checkable
class Loss(Protocol):
    """How far the logits have left a class, `[N]`."""

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """From logits `[N, K]` and classes `[N]`."""

    def towards(self, logits: Tensor, classes: Tensor) -> Tensor:
        """How far the logits have come to a class: what an attack with a target climbs, `[N]`."""


@dataclass(frozen=True)
class Margin:
    """The lead of the best other class, at most κ (Laidlaw et al. 2021; κ = ∞ for Fast-LPA)."""

    identity: ClassVar[str] = "margin/1"
    kappa: float = float("inf")

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """`[N]`, positive where another class leads."""
        return (-margin(logits, classes)).clamp(max=self.kappa)

    def towards(self, logits: Tensor, classes: Tensor) -> Tensor:
        """`[N]`, positive where the class leads, by κ at most."""
        return margin(logits, classes).clamp(max=self.kappa)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the class (Madry et al. 2018)."""

    identity: ClassVar[str] = "cross_entropy/1"

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """`[N]`, nats."""
        return F.cross_entropy(logits, classes, reduction="none")

    def towards(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The log-probability of the class, `[N]`."""
        return -self(logits, classes)


@dataclass(frozen=True)
class DLR:
    """The difference of logits ratio: the margin, blind to the scale of the logits (Croce & Hein 2020a, equation 6).

    The lead over the best other class, as a share of the gap between the highest and the third highest logit. Two
    classes have no third, nor has an example for which no more exist: there it is the margin.
    """

    identity: ClassVar[str] = "dlr/1"

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """`[N]`, positive where another class leads; 1 at most."""
        lead = -margin(logits, classes)
        if logits.shape[1] < 3:
            return lead
        first, _second, third = logits.topk(3, 1).values.unbind(1)
        return lead / torch.where(third == -torch.inf, 1, first - third).clamp(min=_FLAT)

    def towards(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The lead of the class, as the same share, `[N]`."""
        return -self(logits, classes)


class TargetedLoss(Protocol):
    """How far one class has come on another, `[N]`."""

    def __call__(self, logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
        """From logits `[N, K]`, labels `[N]` and rivals `[N]`."""


@dataclass(frozen=True)
class LogitDifference:
    """The lead of the rival over the label: a difference of two logits."""

    identity: ClassVar[str] = "logit_difference/1"

    def __call__(self, logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
        """`[N]`, positive where the rival leads."""
        pair = logits.gather(1, torch.stack((rivals, labels), 1))
        return difference(pair[:, 0], pair[:, 1])


@dataclass(frozen=True)
class TargetedDLR:
    """The lead of the rival, blind to the scale of the logits (Croce & Hein 2020a, equation 7).

    As a share of the gap between the highest logit and the mean of the third and the fourth, or of the one of them that
    exists; two classes have neither, and it is the lead itself.
    """

    identity: ClassVar[str] = "targeted_dlr/1"

    def __call__(self, logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
        """`[N]`, positive where the rival leads; 1 at most."""
        lead = LogitDifference()(logits, labels, rivals)
        if logits.shape[1] < 3:
            return lead
        top = logits.topk(min(4, logits.shape[1]), 1).values
        exist = top[:, 2:] != -torch.inf
        mean = torch.where(exist, top[:, 2:], 0).sum(1) / exist.sum(1).clamp(min=1)
        return lead / torch.where(exist.any(1), top[:, 0] - mean, 1).clamp(min=_FLAT)
