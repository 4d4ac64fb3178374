"""TRADES: cross-entropy on clean images plus a penalty on predictions that change inside a region.

Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019, equation 5:
cross-entropy(f(x), y) + β · max KL(p(x) ‖ p(x')).

The gradient of the divergence is zero at x, so the search has to start elsewhere. `defense=trades` starts at a random
point of the region, as every search here: this is defined for every threat model. The published network was trained
with a start at a distance of about a thousandth: `NearbyPGD`.
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
    """Return KL(p ‖ q) of the class probabilities of two `[N, K]` logits, `[N]`, in nats; in float32 at least."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_p = logits.to(dtype).log_softmax(1)
    log_q = others.to(dtype).log_softmax(1)
    log_ratio = torch.where(log_p == -torch.inf, 0, log_p - log_q)  # 0 log 0 of an absent class is 0
    return (log_p.exp() * log_ratio).sum(1)


@dataclass(frozen=True)
class DivergenceGoal(Goal):
    """Maximise the divergence from the predictions of the clean images; labels play no part."""

    clean: Tensor
    """`[N, K]` logits; `[N, 0]` before `with_targets`."""

    def with_targets(self, clean: Callable[[], Tensor]) -> DivergenceGoal:
        """Return the goal with the clean logits."""
        return replace(self, clean=clean())

    def gain(self, logits: Tensor) -> Tensor:
        """Return KL(p(x) ‖ p(x')), `[N]`."""
        return divergence(self.clean, logits)

    def reached(self, logits: Tensor) -> Tensor:
        """Return False everywhere: the divergence has no largest value."""
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)

    def rows(self, keep: Tensor) -> DivergenceGoal:
        """Return the goal of some of the examples."""
        return replace(self, labels=self.labels[keep], clean=self.clean[keep])


@dataclass(frozen=True)
class OtherPredictions:
    """The objective of TRADES' inner search."""

    identity: ClassVar[str] = "other_predictions/1"

    def bind(self, labels: Tensor, noise: Noise) -> Goal:
        """Return the goal of `[N]` labels."""
        return DivergenceGoal(labels, torch.zeros(len(labels), 0, device=labels.device))


@dataclass(frozen=True, kw_only=True)
class NearbyPGD(PGD):
    """PGD with a start close to the image, as in the TRADES authors' code.

    Args:
        threat_model, goal, iterate, steps, step_size, step, schedule: as in `PGD`.
        spread: standard deviation of the start about x, in the params' own unit (pixels for L∞ and L2), not a share of
            the bound. The start is projected into the region.
    """

    identity: ClassVar[str] = "nearby_pgd/1"
    spread: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.spread > 0:
            raise ValueError(f"a start of spread {self.spread} about x: expected one above 0, at x the gradient is 0")

    def search(self, state: SearchState) -> None:
        """Run `PGD` from a start close to the image."""
        image = state.region.zero()
        state.params = image + state.noise.normal(image.shape, self.spread).to(image)
        super().search(state)


class TRADES(AdversarialDefense):
    """Cross-entropy on clean images plus β times the divergence under attack; every example is attacked.

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
        """Return the sum of both terms, `[N]`, from one train-mode forward pass of clean and adversarial images."""
        (name,) = self.attacks
        count = len(batch.labels)
        right = self.right(batch)
        images = self.perturbed(name, batch, self.to_attack(right))
        outputs = self.outputs(torch.cat((batch.images, images)))
        clean, attacked = outputs.logits.chunk(2)
        self.note_attacked(name, attacked, batch.labels, right)
        penalty = divergence(clean, attacked)
        self.note("train", divergence=penalty)
        return self.loss(outputs.rows(slice(0, count)), batch.labels) + self.beta * penalty
