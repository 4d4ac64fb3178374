"""Projected gradient descent, the first-order search for any differentiable threat model.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, §2.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from gauntlet.attacks.search import Search
from gauntlet.attacks.state import SearchState
from gauntlet.attacks.steps import Constant, Schedule, Steepest, Step
from gauntlet.varied import STEPS


@dataclass(frozen=True, kw_only=True)
class PGD(Search):
    """Ascend, project, repeat.

    Args:
        threat_model: the images to search.
        goal: the objective, and what counts as a success.
        iterate: which of the points seen is returned.
        restarts: tries from random starts.
        steps: number of gradient steps. 0 returns the random start, with restarts the best of several.
        step_size: length of a step as a share of the bound.
        step: how a gradient becomes a step.
        schedule: how the step size changes.
    """

    identity: ClassVar[str] = "pgd/1"
    steps: int = field(default=40, metadata=STEPS)
    step_size: float = 0.1
    step: Step = field(default_factory=Steepest)
    schedule: Schedule = field(default_factory=Constant)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0 or not 0 < self.step_size < inf:
            raise ValueError(
                f"PGD of {self.steps} steps of {self.step_size}: expected steps ≥ 0 and a finite step_size > 0"
            )

    @property
    def gradient_free(self) -> bool:
        """With 0 steps it draws random images."""
        return self.steps == 0

    def search(self, state: SearchState) -> None:
        """Step, project, and drop the examples whose goal is reached, `steps` times."""
        state.params = state.region.project(state.params)
        for i in range(self.steps):
            gain, _ = state.evaluate()
            gradient = state.gradient(gain)
            length = self.step_size * self.schedule(i, self.steps)
            state.params = state.region.project(self.step(state, gradient, length, i))
            state.drop_finished()
            if not len(state):
                break
