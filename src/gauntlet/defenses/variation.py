"""Variation regularisation: a penalty on the largest logit distance between two images of a region.

Dai, Mahloujifar, Mittal, "Formulating robustness against unforeseen attacks", NeurIPS 2022: to the loss is added
weight · max ‖h(x₁) − h(x₂)‖₂ over two points of the source region; h are the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gauntlet.attacks import Attack, Last, Search
from gauntlet.data import Batch
from gauntlet.defenses.adversarial import AdversarialTraining, Rehearsal
from gauntlet.goals import Goal
from gauntlet.losses import difference
from gauntlet.noise import Noise


def variation(logits: Tensor) -> Tensor:
    """Return ‖h(x₁) − h(x₂)‖₂, `[N]`, of `[2N, K]` logits: those of all x₁, then those of all x₂.

    In float32 at least: squares overflow in half precision.
    """
    first, second = logits.to(torch.promote_types(logits.dtype, torch.float32)).chunk(2)
    return torch.linalg.vector_norm(difference(first, second), dim=1)


@dataclass(frozen=True)
class VariationGoal(Goal):
    """Maximise the logit distance of two points of each region; a batch holds every image twice."""

    def gain(self, logits: Tensor) -> Tensor:
        """Return the variation, once for either point, `[2N]`."""
        return variation(logits).repeat(2)

    def reached(self, logits: Tensor) -> Tensor:
        """Return False everywhere: the distance has no largest value."""
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)


@dataclass(frozen=True)
class TwoPoints:
    """The objective of the search for the variation, for any `Search`."""

    identity: ClassVar[str] = "two_points/1"

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """Return the goal of `[2N]` labels."""
        return VariationGoal(labels)


class VariationRegularised(AdversarialTraining):
    """Adversarial training plus the variation over the region; with Fast-LPA for both this is PAT-VR.

    Args:
        attack: as in `AdversarialTraining`.
        search: of the two points, with the goal `TwoPoints` and the last iterate, so that both points of a pair come
            from the same step.
        weight: of the variation; 0.05 and 0.1 for PAT.
        training: the rest of `AdversarialTraining`'s arguments.
    """

    def __init__(self, attack: Attack, search: Search, weight: float, **training: Any) -> None:
        super().__init__(attack, **training)
        if not isinstance(search.goal, TwoPoints) or not isinstance(search.iterate, Last):
            raise ValueError(
                f"the search for the variation has the goal {type(search.goal).__name__} and returns"
                f" {type(search.iterate).__name__.lower()} iterates: expected TwoPoints and Last"
            )
        if not search.threat_model.bound > 0:
            raise ValueError(f"variation over a region of bound {search.threat_model.bound}: expected one above 0")
        if not weight >= 0:
            raise ValueError(f"variation weight {weight}: expected at least 0")
        self.search, self.weight = search, weight

    def rehearsals(self, batch: Batch) -> list[Rehearsal]:
        """Return the attack, and the search with both points of every example."""
        return [*super().rehearsals(batch), Rehearsal("the search for the variation", self.search, _twice(batch))]

    def losses(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the adversarial images plus the weighted variation, `[N]`."""
        count = len(batch.labels)
        right = self.right(batch)
        images = torch.cat((self.training_images(batch, right), self.pairs(batch)))
        outputs = self.outputs(images)
        logits = outputs.logits
        penalty = variation(logits[count:])
        self.note("train", variation=penalty)
        self.note_attacked(self.attack_name, logits[:count], batch.labels, right)
        return self.loss(outputs.rows(slice(0, count)), batch.labels) + self.weight * penalty

    def pairs(self, batch: Batch) -> Tensor:
        """Return both points of every example, `[2N, C, H, W]`, each from its own start."""
        seeds = self.example_seeds(batch, self.current_epoch)
        both = torch.cat((self.stream(seeds, 1), self.stream(seeds, 2)))  # the attack uses the seeds themselves
        return self.attacked(self.search, _twice(batch), both).images


def _twice(batch: Batch) -> Batch:
    """Return every example, then every example again."""
    return batch.mapped(lambda part: torch.cat((part, part)))
