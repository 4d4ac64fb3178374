"""The best step of a given perceptual length, to first order.

Laidlaw et al., "Perceptual Adversarial Robustness", ICLR 2021, §4 (PPGD) and appendix A.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from gauntlet.attacks.conjugate_gradients import conjugate_gradients
from gauntlet.attacks.gradient import finite_gradient
from gauntlet.attacks.jacobian import DoubleBackward, Jacobian, pulled_back
from gauntlet.attacks.perceptual_search import PerceptualSearch
from gauntlet.attacks.projections import Newton, Projection
from gauntlet.attacks.state import SearchState
from gauntlet.goals import Objective, Untargeted
from gauntlet.losses import Margin
from gauntlet.threats.l2 import norm, per_image
from gauntlet.threats.perceptual import PerceptualRegion, perceptual
from gauntlet.varied import COST

_SLOWEST = 1e-4  # φ per pixel unit: where φ hardly moves a step ends at the box, not beyond all bounds


@dataclass(frozen=True, kw_only=True)
class FirstOrderStep(PerceptualSearch):
    """One step along (JᵀJ)⁻¹ g, the δ of steepest gain among those with ‖J δ‖ = η; then back into the ball.

    g is the gradient of the goal's gain and J the derivative of φ. The system is solved by conjugate gradients, and J
    is never formed. Costs 1F + 1B for g, and of φ's network 1B, and per iteration 1B and a product with J.

    Args:
        threat_model: a `NeuralPerceptual` ball.
        goal: what for; beyond κ = 1 the margin has no gradient, and who has none does not move.
        iterate: which of the points seen comes back.
        restarts: tries from random starts.
        step_size: η as a share of the bound.
        iterations: of the conjugate gradients.
        tolerance: residual, as a share of its own g, at which an example's system counts as solved.
        jacobian: how J v is computed; Jᵀw is a backward pass.
        projection: how those outside come back.
    """

    identity: ClassVar[str] = "first_order_step/1"
    goal: Objective = field(default_factory=lambda: Untargeted(Margin(kappa=1.0)))
    step_size: float = 1.0
    iterations: int = field(default=5, metadata=COST)
    tolerance: float = 1e-3
    jacobian: Jacobian = field(default_factory=DoubleBackward)
    projection: Projection = field(default_factory=Newton)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.step_size > 0 or self.iterations < 1 or not 0 <= self.tolerance < 1:
            raise ValueError(
                f"a first-order step of {self.step_size} by {self.iterations} iterations to {self.tolerance}:"
                f" expected a step_size > 0, at least 1 iteration, a tolerance of at least 0 and below 1"
            )

    def search(self, state: SearchState) -> None:
        """One step."""
        self.step(state, self.step_size)

    def step(self, state: SearchState, share: float) -> None:
        """Look, let go who is done, and move the others by `share` bounds in perceptual distance."""
        gain, output = state.evaluate()
        gradient = finite_gradient(gain, state.params, keep_graph=True)
        at, embedding, before = state.params, output.embedding, len(state)
        del gain, output  # and the classifier's activations, where φ has a network of its own
        state.buffers = (gradient,)
        state.drop_finished()
        (gradient,), state.buffers = state.buffers, ()
        if not len(state):
            return
        ball = perceptual(state.region)
        if len(state) < before:  # a forward for those who stand is cheaper than the solver for those who do not
            at = state.params.detach().requires_grad_()
            embedding = ball.metric.embed(ball.perturb(at))
        moved = at.detach() + self._change(ball, at, embedding, gradient, share * ball.bound)
        state.params = self.projection(ball, ball.clip(moved))

    def _change(
        self, ball: PerceptualRegion, at: Tensor, embedding: tuple[Tensor, ...], gradient: Tensor, length: float
    ) -> Tensor:
        """δ with ‖J δ‖ = length along (JᵀJ)⁻¹ g, `[n, C, H, W]`; 0 where g is."""
        pushed = self.jacobian.at(lambda params: ball.metric.embed(ball.perturb(params)), at, embedding)

        def product(along: Tensor) -> Tensor:
            return pulled_back(embedding, at, pushed(along))

        change, residual = conjugate_gradients(product, gradient, self.iterations, self.tolerance)
        squared = (change * (gradient - residual)).flatten(1).sum(1)  # ⟨u, A u⟩ = ‖J u‖², for it is A u = g − residual
        blind = norm(change) == 0  # where φ does not feel g at all, along g
        along = torch.where(per_image(blind, change), gradient, change)
        slowest = (_SLOWEST * norm(along)).clamp(min=torch.finfo(along.dtype).tiny)
        return along * per_image(length / squared.clamp(min=0).sqrt().maximum(slowest), along)
