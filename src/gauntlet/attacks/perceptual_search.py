"""The base class of the PAT paper's attacks: a perceptual ball, and a projection onto it."""

from __future__ import annotations

from dataclasses import dataclass

from gauntlet.attacks.projections import Projection
from gauntlet.attacks.search import Search
from gauntlet.threats import NeuralPerceptual


@dataclass(frozen=True, kw_only=True)
class PerceptualSearch(Search):
    """A search of a `NeuralPerceptual` ball that may leave it between steps.

    Args:
        threat_model: a `NeuralPerceptual` ball.
        projection: how points outside the ball are projected.
    """

    threat_model: NeuralPerceptual
    projection: Projection

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.threat_model, NeuralPerceptual):
            raise TypeError(
                f"{type(self).__name__} searches a NeuralPerceptual ball,"
                f" {type(self.threat_model).__name__} is not one: use PGD for it"
            )

    @property
    def stays_inside(self) -> bool:
        """Whether the projection guarantees it."""
        return self.projection.promises
