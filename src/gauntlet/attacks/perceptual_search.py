"""What the attacks of the PAT paper share: a perceptual ball, and a way back into it."""

from __future__ import annotations

from dataclasses import dataclass

from gauntlet.attacks.projections import Projection
from gauntlet.attacks.search import Search
from gauntlet.threats import NeuralPerceptual


@dataclass(frozen=True, kw_only=True)
class PerceptualSearch(Search):
    """A search of a `NeuralPerceptual` ball that may leave it on the way.

    Args:
        threat_model: a `NeuralPerceptual` ball.
        projection: what happens to a point outside the ball.
    """

    threat_model: NeuralPerceptual
    projection: Projection

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.threat_model, NeuralPerceptual):
            raise TypeError(
                f"{type(self).__name__} searches a NeuralPerceptual ball,"
                f" {type(self.threat_model).__name__} is none: use PGD for it"
            )

    @property
    def stays_inside(self) -> bool:
        """Only with a projection that promises it."""
        return self.projection.promises
