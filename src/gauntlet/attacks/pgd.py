"""Projected gradient descent, the first-order search for any differentiable threat model.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, §2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gauntlet.attacks.quest import Quest
from gauntlet.attacks.search import Search


@dataclass(frozen=True, kw_only=True)
class PGD(Search):
    """Ascend, project, repeat.

    Args:
        threat_model: where it searches.
        goal: what for.
        iterate: which of the points seen comes back.
        steps: number of gradient steps. 0 returns the start.
        step_size: length of a step as a share of the bound.
    """

    steps: int = 40
    step_size: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 0 or self.step_size <= 0:
            raise ValueError(f"PGD of {self.steps} steps of {self.step_size}: expected steps ≥ 0 and a step_size > 0")

    def search(self, quest: Quest) -> None:
        """As in the paper."""
        quest.params = quest.region.project(quest.params)
        for _ in range(self.steps):
            gain, _look = quest.look()
            (gradient,) = torch.autograd.grad(gain.sum(), quest.params)
            quest.params = quest.region.project(quest.region.ascend(quest.params.detach(), gradient, self.step_size))
            quest.retire()
            if not len(quest):
                break
