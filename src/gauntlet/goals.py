"""What an attack wants of the logits: a gain to climb, and the moment it is reached.

Losses stay `[N]`: no example's numbers depend on its batch-mates'.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gauntlet.noise import Noise


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """The lead of a class over the best of the others, `[N]`; negative where another class leads.

    Args:
        logits: `[N, K]`, K ≥ 2.
        classes: `[N]`.
    """
    if logits.shape[1] < 2:
        raise ValueError(f"a margin needs at least 2 classes, the classifier has {logits.shape[1]}")
    own = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return own - others.amax(1)


class Loss(Protocol):
    """How far the logits have left a class, `[N]`."""

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """From logits `[N, K]` and classes `[N]`."""

    def towards(self, logits: Tensor, classes: Tensor) -> Tensor:
        """How far the logits have come to a class: what an attack with a target climbs, `[N]`."""


@dataclass(frozen=True)
class Margin:
    """The lead of the best other class, at most κ (Laidlaw et al. 2021; κ = ∞ for Fast-LPA)."""

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

    def __call__(self, logits: Tensor, classes: Tensor) -> Tensor:
        """`[N]`, nats."""
        return F.cross_entropy(logits, classes, reduction="none")

    def towards(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The log-probability of the class, `[N]`."""
        return -self(logits, classes)


@dataclass(frozen=True)
class Goal(ABC):
    """An objective for one batch."""

    loss: Loss
    labels: Tensor

    @abstractmethod
    def gain(self, logits: Tensor) -> Tensor:
        """What the attack climbs, `[N]`."""

    @abstractmethod
    def reached(self, logits: Tensor) -> Tensor:
        """Where the attack is done, `[N]` booleans."""

    def rows(self, keep: Tensor) -> Goal:
        """The goal of some of the examples; `keep` is a mask or indices over N."""
        return replace(self, labels=self.labels[keep])


@dataclass(frozen=True)
class Away(Goal):
    """Any class but the label."""

    def gain(self, logits: Tensor) -> Tensor:
        """The loss of the label."""
        return self.loss(logits, self.labels)

    def reached(self, logits: Tensor) -> Tensor:
        """The prediction is not the label."""
        return logits.argmax(1) != self.labels


@dataclass(frozen=True)
class Towards(Goal):
    """One drawn class per example, uniform over those that are not the label."""

    draws: Tensor

    def targets(self, classes: int) -> Tensor:
        """`[N]`: (label + 1 + r) mod K with r uniform in 0 … K-2."""
        if classes < 2:
            raise ValueError(f"another class to aim at needs at least 2 classes, the classifier has {classes}")
        return (self.labels + 1 + (self.draws * (classes - 1)).long().clamp(max=classes - 2)) % classes

    def gain(self, logits: Tensor) -> Tensor:
        """How far the logits have come to the target."""
        return self.loss.towards(logits, self.targets(logits.shape[1]))

    def reached(self, logits: Tensor) -> Tensor:
        """The prediction is the target."""
        return logits.argmax(1) == self.targets(logits.shape[1])

    def rows(self, keep: Tensor) -> Towards:
        """As in `Goal`."""
        return replace(self, labels=self.labels[keep], draws=self.draws[keep])


class Objective(Protocol):
    """What a user configures; `of` makes the goal of a batch from its labels."""

    def of(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""


@dataclass(frozen=True)
class Untargeted:
    """Be wrong in any way.

    Args:
        loss: what is climbed.
    """

    loss: Loss = field(default_factory=Margin)

    def of(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""
        return Away(self.loss, labels)


@dataclass(frozen=True)
class RandomTarget:
    """Be wrong as one class per example, drawn from the example's seed.

    Args:
        loss: whose `towards` the target is climbed.
    """

    loss: Loss = field(default_factory=CrossEntropy)

    def of(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""
        return Towards(self.loss, labels, noise.uniform((len(labels),)))
