"""The attack of nobody: clean accuracy as a column like the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from gauntlet.attacks.search import Adversarial
from gauntlet.checks import check_batch
from gauntlet.threats import ThreatModel, Unchanged


@dataclass(frozen=True)
class Clean:
    """Gives the images back as they came."""

    identity: ClassVar[str] = "clean/1"
    threat_model: ThreatModel = field(default_factory=Unchanged)

    @property
    def stays_inside(self) -> bool:
        """True."""
        return True

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
        region = self.threat_model.around(images)
        return Adversarial(images.detach(), region.identity(), images.new_zeros(len(images)))
