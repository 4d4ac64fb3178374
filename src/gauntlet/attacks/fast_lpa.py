"""Fast Lagrangian perceptual attack, the attack of perceptual adversarial training.

Laidlaw et al., "Perceptual Adversarial Robustness", ICLR 2021, §4 and appendix A.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from gauntlet.attacks.perceptual_search import PerceptualSearch
from gauntlet.attacks.projections import NoProjection, Projection
from gauntlet.attacks.state import SearchState
from gauntlet.threats.perceptual import perceptual
from gauntlet.varied import STEPS


@dataclass(frozen=True, kw_only=True)
class FastLagrangianPerceptualAttack(PerceptualSearch):
    """Ascend margin − λ·max(0, d − bound); λ grows tenfold and the steps shrink tenfold during the search.

    Costs `steps`·(2F + B) + 1F where the distance is the classifier's own, and 1F to measure the result.

    Args:
        threat_model: a `NeuralPerceptual` ball.
        goal: the objective; the paper's loss is the margin without a cap.
        iterate: which of the points seen is returned; the paper's is the last.
        steps: N; 10 in training, 20 in the published defaults.
        multiplier: λ at the end; it begins at a tenth of that.
        probe: h, the pixel length over which the rate of change of φ is measured.
        projection: how points outside the ball are projected; the paper does not project in training.
    """

    identity: ClassVar[str] = "fast_lpa/1"
    steps: int = field(default=20, metadata=STEPS)
    multiplier: float = 10.0
    probe: float = 0.1
    projection: Projection = field(default_factory=NoProjection)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ValueError(f"Fast-LPA of {self.steps} steps: expected at least 1")
        if not self.multiplier >= 0 or not self.probe > 0:
            raise ValueError(
                f"Fast-LPA with a multiplier of {self.multiplier} and a probe of {self.probe}: expected a multiplier"
                f" ≥ 0 and a pixel length above 0, such as 10 and 0.1"
            )

    def search(self, state: SearchState) -> None:
        """As in the paper."""
        for i in range(self.steps):
            length = state.region.bound * 0.1 ** (i / self.steps)
            multiplier = self.multiplier * 0.1 ** (1 - i / self.steps)
            region = perceptual(state.region)
            gain, output = state.evaluate()
            assert output.distance is not None
            objective = gain - multiplier * (output.distance - region.bound).relu()
            gradient = state.gradient(objective)
            embedding = tuple(layer.detach() for layer in output.embedding)
            state.params = region.advance(state.params.detach(), gradient, embedding, length, self.probe)
            state.drop_finished()
            if not len(state):
                return
        state.params = self.projection(state.region, state.params)
