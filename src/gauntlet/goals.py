"""What an attack wants of the logits: a gain to climb, and the moment it is reached."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from gauntlet.losses import CrossEntropy, Loss, Margin, TargetedDLR, TargetedLoss
from gauntlet.noise import Noise


@dataclass(frozen=True)
class Goal(ABC):
    """An objective for one batch."""

    labels: Tensor

    @property
    def num_targets(self) -> int:
        """How many things are with_targets at, one after another; known once it was with_targets."""
        return 1

    def with_targets(self, clean: Callable[[], Tensor]) -> Goal:
        """The goal once the classifier may be asked; `clean` gives the logits of the images as they are, `[N, K]`."""
        return self

    def at_target(self, turn: int) -> Goal:
        """The goal that aims at thing number `turn`, counted from 0."""
        return self

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
class UntargetedGoal(Goal):
    """Any class but the label."""

    loss: Loss

    def gain(self, logits: Tensor) -> Tensor:
        """The loss of the label."""
        return self.loss(logits, self.labels)

    def reached(self, logits: Tensor) -> Tensor:
        """The prediction is not the label."""
        return logits.argmax(1) != self.labels


@dataclass(frozen=True)
class TargetedGoal(Goal):
    """One drawn class per example, uniform over those that exist and are not the label."""

    loss: Loss
    draws: Tensor

    def targets(self, logits: Tensor) -> Tensor:
        """`[N]` from logits `[N, K]`: of the classes after the label, and round again, number r that is not −∞.

        r is uniform over as many as there are; where there is none the target is the next class.
        """
        classes = logits.shape[1]
        if classes < 2:
            raise ValueError(f"another class to aim at needs at least 2 classes, the classifier has {classes}")
        others = (self.labels[:, None] + torch.arange(1, classes, device=logits.device)) % classes
        exist = logits.detach().gather(1, others) != -torch.inf
        count = exist.sum(1)
        drawn = (self.draws * count).long().minimum(count - 1)
        place = (exist.cumsum(1) > drawn[:, None]).int().argmax(1, keepdim=True)
        return others.gather(1, place)[:, 0]

    def gain(self, logits: Tensor) -> Tensor:
        """How far the logits have come to the target."""
        return self.loss.towards(logits, self.targets(logits))

    def reached(self, logits: Tensor) -> Tensor:
        """The prediction is the target."""
        return logits.argmax(1) == self.targets(logits)

    def rows(self, keep: Tensor) -> TargetedGoal:
        """As in `Goal`."""
        return replace(self, labels=self.labels[keep], draws=self.draws[keep])


@dataclass(frozen=True)
class RankedTargetsGoal(Goal):
    """Any class but the label, by way of the likeliest others, one after another."""

    loss: TargetedLoss
    count: int
    rivals: Tensor
    """`[N, count]` classes, the likeliest first; `[N, 0]` until it is with_targets."""
    turn: int = 0

    @property
    def num_targets(self) -> int:
        """As many as there are rivals."""
        return self.rivals.shape[1]

    def with_targets(self, clean: Callable[[], Tensor]) -> RankedTargetsGoal:
        """With the rivals that the clean logits rank highest: `count`, or all where there are fewer.

        Classes at −∞ are none: in their num_targets the rivals that exist come again, the likeliest first.
        """
        logits = clean()
        if logits.shape[1] < 2:
            raise ValueError(f"another class to aim at needs at least 2 classes, the classifier has {logits.shape[1]}")
        others = logits.scatter(1, self.labels[:, None], -torch.inf)
        ranked = others.argsort(dim=1, descending=True, stable=True)
        num_targets = torch.arange(min(self.count, logits.shape[1] - 1), device=logits.device)
        exist = (others != -torch.inf).sum(1, keepdim=True).clamp(min=1)
        return replace(self, rivals=ranked.gather(1, num_targets % exist))

    def at_target(self, turn: int) -> RankedTargetsGoal:
        """Past the rival of rank `turn`."""
        return replace(self, turn=turn)

    def gain(self, logits: Tensor) -> Tensor:
        """How far the rival has come on the label."""
        return self.loss(logits, self.labels, self.rivals[:, self.turn])

    def reached(self, logits: Tensor) -> Tensor:
        """The prediction is not the label; that another class than the rival took its place is as good."""
        return logits.argmax(1) != self.labels

    def rows(self, keep: Tensor) -> RankedTargetsGoal:
        """As in `Goal`."""
        return replace(self, labels=self.labels[keep], rivals=self.rivals[keep])


def _check_loss(loss: object, kind: type, known: str) -> None:
    if not isinstance(loss, kind):
        raise TypeError(f"{type(loss).__name__} is no loss of one class: expected {known}")


class Objective(Protocol):
    """What a user configures; `of` makes the goal of a batch from its labels."""

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""


@dataclass(frozen=True)
class Untargeted:
    """Be wrong in any way.

    Args:
        loss: what is climbed.
    """

    identity: ClassVar[str] = "untargeted/1"
    loss: Loss = field(default_factory=Margin)

    def __post_init__(self) -> None:
        _check_loss(self.loss, Loss, "Margin, CrossEntropy or DLR")

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""
        return UntargetedGoal(labels, self.loss)


@dataclass(frozen=True)
class RandomTarget:
    """Be wrong as one class per example, drawn from the example's seed.

    Args:
        loss: whose `towards` the target is climbed.
    """

    identity: ClassVar[str] = "random_target/1"
    loss: Loss = field(default_factory=CrossEntropy)

    def __post_init__(self) -> None:
        _check_loss(self.loss, Loss, "Margin, CrossEntropy or DLR")

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""
        return TargetedGoal(labels, self.loss, noise.uniform((len(labels),)))


@dataclass(frozen=True)
class RankedTargets:
    """Be wrong in any way, by way of each of the classes that the clean image is likeliest to be taken for.

    A search has a try of its own for each, the likeliest first, on those who still stand (Croce & Hein 2020a, §4).

    Args:
        loss: of label and target; what is climbed.
        targets: how many classes; all others where the classifier has fewer.
    """

    identity: ClassVar[str] = "ranked_targets/1"
    loss: TargetedLoss = field(default_factory=TargetedDLR)
    targets: int = 9

    def __post_init__(self) -> None:
        if hasattr(self.loss, "towards"):  # a loss of one class
            raise TypeError(
                f"{type(self.loss).__name__} is no loss of label and target: expected LogitDifference or TargetedDLR"
            )
        if self.targets < 1:
            raise ValueError(f"{self.targets} target classes: expected at least 1; the AutoAttack paper has 9")

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""
        return RankedTargetsGoal(labels, self.loss, self.targets, labels.new_zeros(len(labels), 0))
