"""The interface of certificates: a threat model, a confidence, and a radius per example."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from gauntlet.kinds import Kind
from gauntlet.noise import Noise
from gauntlet.threats import ThreatModel


class Certified(NamedTuple):
    """The result of a certificate for a batch of N."""

    predictions: Tensor
    """`[N]` classes."""
    radius: Tensor
    """`[N]` float64 ≥ 0, in the threat model's unit: no image at this distance or nearer has another prediction.

    The radius is closed, and rounded down: where a proof gives ‖δ‖ < R, this is the next number below R.
    """
    abstained: Tensor
    """`[N]` booleans: the certificate states nothing, and the other columns are meaningless there."""
    detail: Mapping[str, Tensor] = {}
    """`[N]` numbers that the proof counted, by column name, such as votes and lower bounds of probabilities."""


class Certificate(ABC):
    """(proof, threat model): a radius within which the prediction cannot change."""

    kind: ClassVar[Kind] = Kind.CERTIFICATE
    threat_model: ThreatModel
    """Threat model of the radius; its bound only sets where tables show certified accuracy."""

    @property
    def confidence(self) -> float | None:
        """1 − α, the probability over the draws that a radius is right; None for a deterministic certificate."""
        return None

    @property
    def assumption(self) -> str | None:
        """The unproven assumption of a conditional bound, in words; None for a certificate.

        A conditional bound is shown under its name and never counted as certified.
        """
        return None

    @abstractmethod
    def __call__(self, classifier: nn.Module, images: Tensor, noise: Noise) -> Certified:
        """Return a radius for each image. It does not depend on labels.

        Args:
            classifier: images to logits, in eval mode.
            images: `[N, C, H, W]` in [0, 1].
            noise: random numbers, one stream per example.
        """

    def predict(self, classifier: nn.Module, images: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the class of an image by fresh draws, and where it abstains, `[N]` each.

        The soundness check calls this for an image that changed a vote of fixed draws. A certificate with a confidence
        predicts at that confidence.
        """
        certified = self(classifier, images, noise)
        return certified.predictions, certified.abstained
