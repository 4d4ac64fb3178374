"""TRADES: clean accuracy and, apart from it, predictions that do not change inside a region.

Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019, equation 5:
cross-entropy(f(x), y) + β · max KL(p(x) ‖ p(x')).

At x itself the divergence is flat, so the search has to begin elsewhere. `defense=trades` begins anywhere in the
region, as every search of ours does: that means something in every geometry, and is the search that the paper's
maximum asks for. The published network was trained from a thousandth beside the image: `NearbyPGD`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from gauntlet.attacks import PGD, Search
from gauntlet.attacks.state import SearchState
from gauntlet.data import Batch
from gauntlet.defenses.adversarial import AdversarialDefense
from gauntlet.goals import Goal
from gauntlet.noise import Noise


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL(p ‖ q) of the class probabilities p and q of two `[N, K]` logits, `[N]`, in nats; in float32 at least."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    given, other = logits.to(dtype).log_softmax(1), others.to(dtype).log_softmax(1)
    lead = torch.where(given == -torch.inf, 0, given - other)  # 0 log 0 of a class that does not exist is 0
    return (given.exp() * lead).sum(1)


@dataclass(frozen=True)
class Unlike(Goal):
    """Predictions as far from those of the clean images as they can get, whatever the label."""

    clean: Tensor
    """`[N, K]` logits; `[N, 0]` until it is with_targets."""

    def with_targets(self, clean: Callable[[], Tensor]) -> Unlike:
        """With the clean logits."""
        return replace(self, clean=clean())

    def gain(self, logits: Tensor) -> Tensor:
        """KL(p(x) ‖ p(x')), `[N]`."""
        return divergence(self.clean, logits)

    def reached(self, logits: Tensor) -> Tensor:
        """Never: there is always farther."""
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)

    def rows(self, keep: Tensor) -> Unlike:
        """As in `Goal`."""
        return replace(self, labels=self.labels[keep], clean=self.clean[keep])


@dataclass(frozen=True)
class OtherPredictions:
    """The objective of TRADES' inner search."""

    identity: ClassVar[str] = "other_predictions/1"

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """The goal of `[N]` labels."""
        return Unlike(labels, torch.zeros(len(labels), 0, device=labels.device))


@dataclass(frozen=True, kw_only=True)
class NearbyPGD(PGD):
    """PGD from a point just beside the image, where the TRADES authors' own search begins.

    Args:
        threat_model, goal, iterate, steps, step_size, step, schedule: as in `PGD`.
        spread: standard deviation of the start about x, in the params' own unit (pixels for L∞ and L2), not a share of
            the bound; what falls outside the region is projected.
    """

    identity: ClassVar[str] = "nearby_pgd/1"
    spread: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.spread > 0:
            raise ValueError(f"a start of spread {self.spread} about x: expected one above 0, at x nothing is climbed")

    def search(self, state: SearchState) -> None:
        """As `PGD`, from there."""
        image = state.region.zero()
        state.params = image + state.noise.normal(image.shape, self.spread).to(image)
        super().search(state)


class TRADES(AdversarialDefense):
    """Cross-entropy on clean images plus β times the divergence the attack finds; nobody is spared.

    Args:
        attack: with the goal `OtherPredictions`.
        beta: β, called 1/λ in the paper; 6 for the published CIFAR-10 network.
        training: classifier, optimizer, schedule and seed, as in `Defense`.
    """

    def __init__(self, attack: Search, beta: float = 6.0, **training: Any) -> None:
        super().__init__({attack.threat_model.name: attack}, attack_wrong=True, **training)
        goal = getattr(attack, "goal", None)
        if not isinstance(goal, OtherPredictions):
            raise ValueError(f"TRADES' attack has the goal {type(goal).__name__}: expected OtherPredictions")
        if not beta >= 0:
            raise ValueError(f"TRADES with beta {beta}: expected at least 0")
        self.beta = beta

    def losses(self, batch: Batch) -> Tensor:
        """Both terms, `[N]`, of one train-mode forward of clean and adversarial images."""
        (name,), right = self.attacks, self.right(batch)
        images = self.perturbed(name, batch, self.to_attack(right))
        outputs, count = self.outputs(torch.cat((batch.images, images))), len(batch.labels)
        clean, attacked = outputs.logits.chunk(2)
        self.note_attacked(name, attacked, batch.labels, right)
        feature_distance = divergence(clean, attacked)
        self.note("train", len(feature_distance), divergence=feature_distance.detach().mean())
        return self.loss(outputs.rows(slice(0, count)), batch.labels) + self.beta * feature_distance
