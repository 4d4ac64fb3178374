"""Goals of an attack: the gain it maximises, and when an example counts as a success."""

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
        """The number of targets, tried one after another; known after `with_targets`."""
        return 1

    def with_targets(self, clean: Callable[[], Tensor]) -> Goal:
        """The goal with its targets chosen; `clean` computes the logits of the clean images, `[N, K]`."""
        return self

    def at_target(self, index: int) -> Goal:
        """The goal of target number `index`, counted from 0."""
        return self

    @abstractmethod
    def gain(self, logits: Tensor) -> Tensor:
        """The objective that the attack maximises, `[N]`."""

    @abstractmethod
    def reached(self, logits: Tensor) -> Tensor:
        """Where the attack has succeeded, `[N]` booleans."""

    def rows(self, keep: Tensor) -> Goal:
        """The goal of some of the examples; `keep` is a mask or indices over N."""
        return replace(self, labels=self.labels[keep])


@dataclass(frozen=True)
class UntargetedGoal(Goal):
    """Any class except the label."""

    loss: Loss

    def gain(self, logits: Tensor) -> Tensor:
        """The loss of the label."""
        return self.loss(logits, self.labels)

    def reached(self, logits: Tensor) -> Tensor:
        """The prediction is not the label."""
        return logits.argmax(1) != self.labels


@dataclass(frozen=True)
class TargetedGoal(Goal):
    """One random class per example, uniform over those that exist and are not the label."""

    loss: Loss
    draws: Tensor

    def targets(self, logits: Tensor) -> Tensor:
        """The target classes, `[N]`, from logits `[N, K]`.

        Classes are counted from the one after the label, cyclically; the target is the r-th whose logit is not −∞, with
        r uniform. Where no other class exists, it is the class after the label.
        """
        classes = logits.shape[1]
        if classes < 2:
            raise ValueError(f"a target class needs a classifier with at least 2 classes, this one has {classes}")
        others = (self.labels[:, None] + torch.arange(1, classes, device=logits.device)) % classes
        exist = logits.detach().gather(1, others) != -torch.inf
        count = exist.sum(1)
        drawn = (self.draws * count).long().minimum(count - 1)
        first_above = (exist.cumsum(1) > drawn[:, None]).int().argmax(1, keepdim=True)
        return others.gather(1, first_above)[:, 0]

    def gain(self, logits: Tensor) -> Tensor:
        """The loss's gain towards the target."""
        return self.loss.towards(logits, self.targets(logits))

    def reached(self, logits: Tensor) -> Tensor:
        """The prediction is the target."""
        return logits.argmax(1) == self.targets(logits)

    def rows(self, keep: Tensor) -> TargetedGoal:
        """As in `Goal`."""
        return replace(self, labels=self.labels[keep], draws=self.draws[keep])


@dataclass(frozen=True)
class RankedTargetsGoal(Goal):
    """Any class except the label, tried by ascending towards the likeliest others, one after another."""

    loss: TargetedLoss
    count: int
    targets: Tensor
    """`[N, count]` classes, the likeliest first; `[N, 0]` before `with_targets`."""
    target_index: int = 0

    @property
    def num_targets(self) -> int:
        """The number of target classes."""
        return self.targets.shape[1]

    def with_targets(self, clean: Callable[[], Tensor]) -> RankedTargetsGoal:
        """With the `count` classes that the clean logits rank highest, or all where there are fewer.

        Classes at −∞ do not exist: their ranks are filled by repeating the existing ones, the likeliest first.
        """
        logits = clean()
        if logits.shape[1] < 2:
            raise ValueError(
                f"a target class needs a classifier with at least 2 classes, this one has {logits.shape[1]}"
            )
        others = logits.scatter(1, self.labels[:, None], -torch.inf)
        ranked = others.argsort(dim=1, descending=True, stable=True)
        ranks = torch.arange(min(self.count, logits.shape[1] - 1), device=logits.device)
        exist = (others != -torch.inf).sum(1, keepdim=True).clamp(min=1)
        return replace(self, targets=ranked.gather(1, ranks % exist))

    def at_target(self, index: int) -> RankedTargetsGoal:
        """The goal of the target of rank `index`."""
        return replace(self, target_index=index)

    def gain(self, logits: Tensor) -> Tensor:
        """The loss of label and target."""
        return self.loss(logits, self.labels, self.targets[:, self.target_index])

    def reached(self, logits: Tensor) -> Tensor:
        """The prediction is not the label; it need not be the target."""
        return logits.argmax(1) != self.labels

    def rows(self, keep: Tensor) -> RankedTargetsGoal:
        """As in `Goal`."""
        return replace(self, labels=self.labels[keep], targets=self.targets[keep])


def _check_loss(loss: object, kind: type, known: str) -> None:
    if not isinstance(loss, kind):
        raise TypeError(f"{type(loss).__name__} is not a loss of one class: expected {known}")


class Objective(Protocol):
    """What a user configures; `bind` makes the goal of a batch from its labels."""

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""


@dataclass(frozen=True)
class Untargeted:
    """Any misclassification.

    Args:
        loss: the objective, of the label.
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
    """Misclassification as one random class per example, drawn from the example's seed.

    Args:
        loss: its `towards` the target is the objective.
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
    """Any misclassification, tried by ascending towards each of the likeliest other classes of the clean image.

    A search makes one try per target, the likeliest first, on the examples still active (Croce & Hein 2020a, §4).

    Args:
        loss: the objective, of label and target.
        targets: number of target classes; all other classes where the classifier has fewer.
    """

    identity: ClassVar[str] = "ranked_targets/1"
    loss: TargetedLoss = field(default_factory=TargetedDLR)
    targets: int = 9

    def __post_init__(self) -> None:
        if hasattr(self.loss, "towards"):  # a loss of one class
            raise TypeError(
                f"{type(self.loss).__name__} is not a loss of label and target: expected LogitDifference or TargetedDLR"
            )
        if self.targets < 1:
            raise ValueError(f"{self.targets} target classes: expected at least 1; the AutoAttack paper has 9")

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""
        return RankedTargetsGoal(labels, self.loss, self.targets, labels.new_zeros(len(labels), 0))
