"""Variation regularisation: no two images of a region may be told apart too well.

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
    """‖h(x₁) − h(x₂)‖₂ where the first half of `[2N, K]` logits are the x₁ and the second the x₂, `[N]`.

    In float32 at least: the squares of half-precision logits are worth nothing.
    """
    first, second = logits.to(torch.promote_types(logits.dtype, torch.float32)).chunk(2)
    return torch.linalg.vector_norm(difference(first, second), dim=1)


@dataclass(frozen=True)
class Apart(Goal):
    """Two points of each region as far apart in logits as they can get; a batch holds every image twice."""

    def gain(self, logits: Tensor) -> Tensor:
        """The variation, once for either point, `[2N]`."""
        return variation(logits).repeat(2)

    def reached(self, logits: Tensor) -> Tensor:
        """Never: there is always farther."""
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)


@dataclass(frozen=True)
class TwoPoints:
    """The objective of the search for the variation; any search of ours can climb it."""

    identity: ClassVar[str] = "two_points/1"

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[2N]` labels."""
        return Apart(labels)


class VariationRegularised(AdversarialTraining):
    """Adversarial training plus the variation over the region; with Fast-LPA for both this is PAT-VR.

    Args:
        attack: as in `AdversarialTraining`.
        search: of the two points, with the goal `TwoPoints` and the last iterate: pairs must stay pairs.
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
        """The attack, and the search with both points of every example."""
        return [*super().rehearsals(batch), Rehearsal("the search for the variation", self.search, _twice(batch))]

    def losses(self, batch: Batch) -> Tensor:
        """Cross-entropy of the adversarial images plus the weighted variation, `[N]`."""
        count, right = len(batch.labels), self.right(batch)
        images = torch.cat((self.training_images(batch, right), self.pairs(batch)))
        outputs = self.outputs(images)
        logits = outputs.logits
        feature_distance = variation(logits[count:])
        self.note("train", count, variation=feature_distance.detach().mean())
        self.note_attacked(self.attack_name, logits[:count], batch.labels, right)
        return self.loss(outputs.rows(slice(0, count)), batch.labels) + self.weight * feature_distance

    def pairs(self, batch: Batch) -> Tensor:
        """Both points of every example, `[2N, C, H, W]`, each from a start of its own."""
        seeds = self.example_seeds(batch, self.current_epoch)
        both = torch.cat((self.stream(seeds, 1), self.stream(seeds, 2)))  # the attack has the seeds themselves
        return self.attacked(self.search, _twice(batch), both).images


def _twice(batch: Batch) -> Batch:
    """Every example, then every example again."""
    return batch.mapped(lambda part: torch.cat((part, part)))
