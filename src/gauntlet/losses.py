"""Losses that attacks maximise: away from a class, or towards one.

Losses are `[N]`: the loss of an example does not depend on the rest of the batch. A logit of −∞ marks a class that does
not exist and is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

_FLAT = 1e-12  # least gap between logits: where all are equal, the numerator is 0 as well


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """The margin: logit of a class minus the highest other, `[N]`; negative where another is higher, ∞ without others.

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
    """Logits minus others, of any shape; 0 between infinities of equal sign."""
    return torch.where(logits.isinf() & (logits == others), 0, logits - others)


@runtime_checkable
class Loss(Protocol):
    """A loss away from a class or towards it, `[N]`."""

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The loss away from the classes `[N]`, from logits `[N, K]`."""

    def towards(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The gain towards the classes, which a targeted attack maximises, `[N]`."""


@dataclass(frozen=True)
class Margin:
    """The negative margin of the class, at most κ (Laidlaw et al. 2021; κ = ∞ for Fast-LPA)."""

    identity: ClassVar[str] = "margin/1"
    kappa: float = float("inf")

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """`[N]`, positive where another class is predicted."""
        return (-margin(logits, classes)).clamp(max=self.kappa)

    def towards(self, logits: Tensor, classes: Tensor) -> Tensor:
        """`[N]`, positive where the class is predicted; κ at most."""
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
    """The difference of logits ratio: a margin invariant to the scale of the logits (Croce & Hein 2020a, equation 6).

    The negative margin divided by the difference of the highest and the third highest logit. Where fewer than three
    classes exist, it is not divided.
    """

    identity: ClassVar[str] = "dlr/1"

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """`[N]`, positive where another class is predicted; 1 at most."""
        negative_margin = -margin(logits, classes)
        if logits.shape[1] < 3:
            return negative_margin
        first, _second, third = logits.topk(3, 1).values.unbind(1)
        return negative_margin / torch.where(third == -torch.inf, 1, first - third).clamp(min=_FLAT)

    def towards(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The margin of the class, divided likewise, `[N]`."""
        return -self(logits, classes)


class TargetedLoss(Protocol):
    """A loss of a label and a target class, `[N]`."""

    def __call__(self, logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """From logits `[N, K]`, labels `[N]` and targets `[N]`."""


@dataclass(frozen=True)
class LogitDifference:
    """Logit of the target minus that of the label."""

    identity: ClassVar[str] = "logit_difference/1"

    def __call__(self, logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """`[N]`, positive where the target's logit is higher."""
        pair = logits.gather(1, torch.stack((targets, labels), 1))
        return difference(pair[:, 0], pair[:, 1])


@dataclass(frozen=True)
class TargetedDLR:
    """The logit difference, invariant to the scale of the logits (Croce & Hein 2020a, equation 7).

    It is divided by the difference of the highest logit and the mean of the third and the fourth, or the one of them
    that exists; with two classes it is not divided.
    """

    identity: ClassVar[str] = "targeted_dlr/1"

    def __call__(self, logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """`[N]`, positive where the target's logit is higher; 1 at most."""
        difference_to_label = LogitDifference()(logits, labels, targets)
        if logits.shape[1] < 3:
            return difference_to_label
        top = logits.topk(min(4, logits.shape[1]), 1).values
        exist = top[:, 2:] != -torch.inf
        mean = torch.where(exist, top[:, 2:], 0).sum(1) / exist.sum(1).clamp(min=1)
        return difference_to_label / torch.where(exist.any(1), top[:, 0] - mean, 1).clamp(min=_FLAT)
