"""What a certificate is to the evaluation: a threat model, a confidence, and a radius per example."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from gauntlet.kinds import Kind
from gauntlet.noise import Noise
from gauntlet.threats import ThreatModel


class Certified(NamedTuple):
    """What a certificate states of a batch of N."""

    predictions: Tensor
    """`[N]` classes."""
    radius: Tensor
    """`[N]` float64 ≥ 0, in the threat model's unit: no image at this distance or nearer has another prediction.

    The radius is closed, and rounded down: where a proof gives ‖δ‖ < R, this is the next number below R.
    """
    abstained: Tensor
    """`[N]` booleans: no statement is made; the other columns mean nothing there."""
    detail: Mapping[str, Tensor] = {}
    """`[N]` numbers that the proof counted, by name of their column: votes, lower bounds of probabilities."""


class Certificate(ABC):
    """(proof, threat model): how far an image may be changed before the prediction can."""

    kind: ClassVar[Kind] = Kind.CERTIFICATE
    threat_model: ThreatModel
    """What the radius is about; its bound is the one at which tables show certified accuracy, and nothing else."""

    @property
    def confidence(self) -> float | None:
        """1 − α, with which each radius is right, over the draws; None of a deterministic certificate."""
        return None

    @property
    def assumption(self) -> str | None:
        """What the bound rests on without proof, in words; None of a certificate.

        A bound with an assumption is a conditional bound, shown under its name and never counted as certified.
        """
        return None

    @abstractmethod
    def __call__(self, classifier: nn.Module, images: Tensor, noise: Noise) -> Certified:
        """State a radius for each image. Labels are not known here.

        Args:
            classifier: images to logits, in eval mode.
            images: `[N, C, H, W]` in [0, 1].
            noise: random numbers of the examples.
        """

    def predict(self, classifier: nn.Module, images: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """The class at an image by draws of its own, and where it abstains, `[N]` each.

        The soundness check asks this of an image that changed a vote of fixed draws. A certificate with a confidence
        answers at that confidence.
        """
        certified = self(classifier, images, noise)
        return certified.predictions, certified.abstained
