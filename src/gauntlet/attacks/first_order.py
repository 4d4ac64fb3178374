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
from gauntlet.attacks.jacobian import DoubleBackward, Jacobian, transposed_product
from gauntlet.attacks.perceptual_search import PerceptualSearch
from gauntlet.attacks.projections import Newton, Projection
from gauntlet.attacks.state import SearchState
from gauntlet.goals import Objective, Untargeted
from gauntlet.losses import Margin
from gauntlet.threats.l2 import norm, per_image
from gauntlet.threats.perceptual import PerceptualRegion, perceptual
from gauntlet.varied import COST

_LEAST_RATE = 1e-4  # of φ per pixel unit: keeps a step finite where φ hardly changes


@dataclass(frozen=True, kw_only=True)
class FirstOrderStep(PerceptualSearch):
    """One step along (JᵀJ)⁻¹ g, the δ of steepest gain among those with ‖J δ‖ = η, then a projection into the ball.

    g is the gradient of the goal's gain and J the derivative of φ. The system is solved by conjugate gradients, and J
    is never formed. Costs 1F + 1B for g; in φ's network 1B, and per iteration 1B and a product with J.

    Args:
        threat_model: a `NeuralPerceptual` ball.
        goal: the objective; beyond κ = 1 the margin has no gradient, and such examples do not move.
        iterate: which of the points seen is returned.
        restarts: tries from random starts.
        step_size: η as a share of the bound.
        iterations: of conjugate gradients.
        tolerance: residual, as a share of its own g, at which an example's system counts as solved.
        jacobian: how J v is computed; Jᵀw is a backward pass.
        projection: how points outside the ball are projected.
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
        """Evaluate, drop finished examples, and move the others by `share` bounds in perceptual distance."""
        gain, output = state.evaluate()
        gradient = finite_gradient(gain, state.params, keep_graph=True)
        point = state.params
        embedding = output.embedding
        evaluated = len(state)
        del gain, output  # frees the classifier's activations where φ has a network of its own
        state.buffers = (gradient,)
        state.drop_finished()
        (gradient,), state.buffers = state.buffers, ()
        if not len(state):
            return
        ball = perceptual(state.region)
        # A forward of the active examples is cheaper than solving for the dropped ones as well.
        if len(state) < evaluated:
            point = state.params.detach().requires_grad_()
            embedding = ball.metric.embed(ball.perturb(point))
        moved = point.detach() + self._change(ball, point, embedding, gradient, share * ball.bound)
        state.params = self.projection(ball, ball.clip(moved))

    def _change(
        self, ball: PerceptualRegion, point: Tensor, embedding: tuple[Tensor, ...], gradient: Tensor, length: float
    ) -> Tensor:
        """δ with ‖J δ‖ = length along (JᵀJ)⁻¹ g, `[n, C, H, W]`; 0 where g is."""
        times_jacobian = self.jacobian.at(lambda params: ball.metric.embed(ball.perturb(params)), point, embedding)

        def product(along: Tensor) -> Tensor:
            return transposed_product(embedding, point, times_jacobian(along))

        change, residual = conjugate_gradients(product, gradient, self.iterations, self.tolerance)
        # ‖J u‖² = ⟨u, A u⟩, and A u = g − residual.
        squared = (change * (gradient - residual)).flatten(1).sum(1)
        # Where φ is insensitive to g, the step is along g itself.
        insensitive = norm(change) == 0
        along = torch.where(per_image(insensitive, change), gradient, change)
        least = (_LEAST_RATE * norm(along)).clamp(min=torch.finfo(along.dtype).tiny)
        return along * per_image(length / squared.clamp(min=0).sqrt().maximum(least), along)
