"""Lagrangian perceptual attack: a penalty for leaving the ball, and a search over its multiplier.

Laidlaw et al., "Perceptual Adversarial Robustness", ICLR 2021, §4 and appendix A, after Carlini and Wagner, "Towards
evaluating the robustness of neural networks", S&P 2017.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from gauntlet.attacks.perceptual_search import PerceptualSearch
from gauntlet.attacks.projections import Newton, Projection
from gauntlet.attacks.quest import Quest
from gauntlet.attacks.steps import Geometric, Schedule
from gauntlet.goals import Margin, Objective, Untargeted
from gauntlet.threats.perceptual import perceptual


@dataclass(frozen=True, kw_only=True)
class LagrangianPerceptualAttack(PerceptualSearch):
    """Climb margin − λ·max(0, d − bound); where that ended outside, λ grows tenfold and the climb goes on from there.

    Costs at most `searches`·`steps`·(2F + B) and the projection where the distance is the classifier's own. With the
    best iterate, or `Stopped`, an example pays until its goal is first reached inside the ball.

    Args:
        threat_model: a `NeuralPerceptual` ball.
        goal: what for; the margin is worth nothing beyond κ = 1.
        iterate: which of the points seen comes back; the paper's is `Stopped`.
        restarts: tries from random starts.
        searches: values of λ, one climb for each; the params are not reset between them.
        steps: N, of each climb.
        step_size: length of a step as a share of the bound, in perceptual distance.
        schedule: how the length changes along each climb.
        multiplier: λ of the first climb, per example.
        growth: of λ after a climb whose last point was not inside the ball.
        probe: h, the pixel length over which the rate of φ is measured.
        projection: how those outside come back at the end.
    """

    goal: Objective = field(default_factory=lambda: Untargeted(Margin(kappa=1.0)))
    searches: int = 5
    steps: int = 40
    step_size: float = 1.0
    schedule: Schedule = field(default_factory=Geometric)
    multiplier: float = 0.01
    growth: float = 10.0
    probe: float = 0.1
    projection: Projection = field(default_factory=Newton)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.searches < 1 or self.steps < 1 or not self.step_size > 0:
            raise ValueError(
                f"LPA of {self.searches} searches of {self.steps} steps of {self.step_size}:"
                f" expected at least one search and one step, and a step_size > 0"
            )
        if not self.multiplier > 0 or not self.growth >= 1 or not self.probe > 0:
            raise ValueError(
                f"LPA with a multiplier of {self.multiplier}, growing by {self.growth}, and a probe of {self.probe}:"
                f" expected a multiplier > 0, a growth ≥ 1 and a probe > 0, such as 0.01, 10 and 0.1"
            )

    def search(self, quest: Quest) -> None:
        """As in the paper."""
        multiplier = quest.params.new_full((len(quest),), self.multiplier)
        quest.carried = (multiplier, multiplier)
        for _ in range(self.searches):
            for i in range(self.steps):
                self._climb(quest, self.step_size * self.schedule(i, self.steps))
                if not len(quest):
                    return
            multiplier, distance = quest.carried
            grown = torch.where(distance >= quest.region.bound, self.growth * multiplier, multiplier)
            quest.carried = (grown, distance)
        quest.params = self.projection(quest.region, quest.params)

    def _climb(self, quest: Quest, share: float) -> None:
        """One step. λ and the last d are carried, and so is what the look told about those who still stand after it."""
        gain, look = quest.look()
        assert look.distance is not None
        multiplier, _ = quest.carried
        climbed = gain - multiplier * (look.distance - quest.region.bound).relu()
        (gradient,) = torch.autograd.grad(climbed.sum(), quest.params)
        quest.carried = (multiplier, look.distance.detach(), gradient, *(layer.detach() for layer in look.embedding))
        quest.retire()
        multiplier, distance, gradient, *embedding = quest.carried
        quest.carried = (multiplier, distance)
        if len(quest):
            ball, params = perceptual(quest.region), quest.params.detach()
            length = share * ball.bound
            quest.params = ball.advance(params, gradient, tuple(embedding), length, self.probe, slowest=1e-8)
