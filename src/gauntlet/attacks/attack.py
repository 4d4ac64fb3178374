"""What an attack is to everything that runs one: a threat model, a call, and a check of its own result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gauntlet.checks import TOLERANCE, in_box
from gauntlet.data import Batch
from gauntlet.kinds import Kind
from gauntlet.noise import Noise
from gauntlet.threats import Region, SearchableThreatModel


class Adversarial(NamedTuple):
    """What an attack gives back for a batch of N."""

    images: Tensor
    """`[N, C, H, W]` in [0, 1]."""
    params: Tensor
    """`[N, …]`; the region makes the images from them."""
    size: Tensor
    """`[N]`, share of the bound used."""


class Verified(NamedTuple):
    """What an attack's result is by the threat model's own measure, for a batch of N."""

    inside: Tensor
    """`[N]` booleans: the image is what its params say, in [0, 1], and within the bound."""
    size: Tensor
    """`[N]`, share of the bound used."""
    distance: Tensor | None = None
    """`[N]` float64, in the threat model's unit; of minimum-distance attacks alone."""


class Attack(ABC):
    """(algorithm, threat model): a search for an image that the classifier gets wrong."""

    kind: ClassVar[Kind] = Kind.ATTACK
    threat_model: SearchableThreatModel

    @property
    def stays_inside(self) -> bool:
        """Whether every image that comes back belongs to the threat model; if not, it joins no union."""
        return True

    @property
    def gradient_free(self) -> bool:
        """Whether the search asks for logits alone."""
        return False

    @abstractmethod
    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None
    ) -> Adversarial:
        """Attack a batch of which ids and codes are unknown; as `Search.__call__`."""

    def run(self, classifier: nn.Module, batch: Batch, noise: Noise) -> Adversarial:
        """Attack a batch of which ids and codes are known, too; what the evaluation grid calls."""
        return self(classifier, batch.images, batch.labels, seeds=noise.seeds)

    @torch.no_grad()
    def verify(self, classifier: nn.Module, batch: Batch, found: Adversarial) -> Verified:
        """Measure a result again, from its params and its images alone."""
        region = self.threat_model.around(batch, classifier)
        size = region.size(found.params)
        return Verified(reproduced(region, found) & (size <= 1 + TOLERANCE), size)


def reproduced(region: Region, found: Adversarial) -> Tensor:
    """Where the images are in [0, 1] and what their params say, and the attack found a size for them, `[N]`."""
    same = (region.perturb(found.params) == found.images).flatten(1).all(1)
    return same & in_box(found.images) & found.size.isfinite()
