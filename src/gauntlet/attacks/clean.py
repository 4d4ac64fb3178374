"""The attack of nobody: clean accuracy as a column like the others."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from gauntlet.attacks.attack import Adversarial, Attack
from gauntlet.checks import check_batch
from gauntlet.data import unidentified
from gauntlet.threats import SearchableThreatModel, Unchanged


@dataclass(frozen=True)
class Clean(Attack):
    """Gives the images back as they came."""

    threat_model: SearchableThreatModel = field(default_factory=Unchanged)

    def __call__(
        self,
        classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        seeds: Tensor | None = None,
    ) -> Adversarial:
        """`[N, C, H, W]` images, unchanged."""
        check_batch(images, labels)
        region = self.threat_model.around(unidentified(images, labels))
        return Adversarial(images.detach(), region.identity(), images.new_zeros(len(images)))
