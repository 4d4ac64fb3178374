"""Lagrangian perceptual attack: a penalty outside the ball, and a search over its multiplier.

Laidlaw et al., "Perceptual Adversarial Robustness", ICLR 2021, §4 and appendix A, after Carlini and Wagner, "Towards
evaluating the robustness of neural networks", S&P 2017.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from gauntlet.attacks.multipliers import Multipliers, Tenfold
from gauntlet.attacks.perceptual_search import PerceptualSearch
from gauntlet.attacks.projections import Newton, Projection
from gauntlet.attacks.state import SearchState
from gauntlet.attacks.steps import Geometric, Schedule
from gauntlet.goals import Objective, Untargeted
from gauntlet.losses import Margin
from gauntlet.threats.perceptual import perceptual
from gauntlet.varied import COST, STEPS


@dataclass(frozen=True, kw_only=True)
class LagrangianPerceptualAttack(PerceptualSearch):
    """Ascend margin − λ·max(0, d − bound) repeatedly; the end point of an ascent decides the λ of the next.

    Costs at most `searches`·`steps`·(2F + B) and the projection where the distance is the classifier's own. With the
    best iterate, or `FirstSuccess`, an example costs nothing once its goal is reached inside the ball.

    Args:
        threat_model: a `NeuralPerceptual` ball.
        goal: the objective; the margin is capped at κ = 1.
        iterate: which of the points seen is returned; the paper's is `FirstSuccess`.
        restarts: tries from random starts.
        searches: number of ascents, one per value of λ; the params are not reset between them.
        steps: N, of each ascent.
        step_size: length of a step as a share of the bound, in perceptual distance.
        schedule: how the step size changes during each ascent.
        multipliers: how λ is searched; the paper's is `Tenfold`.
        probe: h, the pixel length over which the rate of change of φ is measured.
        projection: how points outside the ball are projected at the end.
    """

    identity: ClassVar[str] = "lpa/1"
    goal: Objective = field(default_factory=lambda: Untargeted(Margin(kappa=1.0)))
    searches: int = field(default=5, metadata=COST)
    steps: int = field(default=40, metadata=STEPS)
    step_size: float = 1.0
    schedule: Schedule = field(default_factory=Geometric)
    multipliers: Multipliers = field(default_factory=Tenfold)
    probe: float = 0.1
    projection: Projection = field(default_factory=Newton)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.searches < 1 or self.steps < 1 or not self.step_size > 0:
            raise ValueError(
                f"LPA of {self.searches} searches of {self.steps} steps of {self.step_size}:"
                f" expected at least one search and one step, and a step_size > 0"
            )
        if not self.probe > 0:
            raise ValueError(f"LPA with a probe of {self.probe}: expected a pixel length above 0, such as 0.1")

    def search(self, state: SearchState) -> None:
        """As in the paper."""
        memory = self.multipliers.begin(state.params)
        # The first buffer is the last d, not yet known; it only needs the right shape.
        state.buffers = (memory[0], *memory)
        for _ in range(self.searches):
            for i in range(self.steps):
                self._step(state, self.step_size * self.schedule(i, self.steps))
                if not len(state):
                    return
            distance, *kept = state.buffers
            state.buffers = (distance, *self.multipliers.after(tuple(kept), distance >= state.region.bound))
        state.params = self.projection(state.region, state.params)

    def _step(self, state: SearchState, share: float) -> None:
        """One step. The buffers are the last d, λ and its memory, and meanwhile the gradient and the embedding."""
        gain, output = state.evaluate()
        assert output.distance is not None
        _, multiplier, *memory = state.buffers
        objective = gain - multiplier * (output.distance - state.region.bound).relu()
        gradient = state.gradient(objective)
        embedding = tuple(layer.detach() for layer in output.embedding)
        kept = (output.distance.detach(), multiplier, *memory)
        # drop_finished drops the rows of all buffers.
        state.buffers = (*kept, gradient, *embedding)
        state.drop_finished()
        gradient, *remaining = state.buffers[len(kept) :]
        state.buffers = state.buffers[: len(kept)]
        if len(state):
            ball, params = perceptual(state.region), state.params.detach()
            length = share * ball.bound
            state.params = ball.advance(params, gradient, tuple(remaining), length, self.probe, slowest=1e-8)
