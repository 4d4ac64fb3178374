"""The interface of every attack: a threat model, a call, and a verification of its own result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gauntlet.checks import in_box
from gauntlet.data import Batch
from gauntlet.kinds import Kind
from gauntlet.noise import Noise
from gauntlet.threats import Region, SearchableThreatModel
from gauntlet.tolerance import TOLERANCE


class Adversarial(NamedTuple):
    """The result of an attack for a batch of N."""

    images: Tensor
    """`[N, C, H, W]` in [0, 1]."""
    params: Tensor
    """`[N, …]`; the region computes the images from them."""
    size: Tensor
    """`[N]`, as a share of the bound."""


class Verified(NamedTuple):
    """The measurements of an attack's result by its threat model, for a batch of N."""

    inside: Tensor
    """`[N]` booleans: the image is in [0, 1], within the bound, and equal to what its params give."""
    size: Tensor
    """`[N]`, as a share of the bound."""
    distance: Tensor | None = None
    """`[N]` float64, in the threat model's unit; only of minimum-distance attacks."""


class Attack(ABC):
    """(algorithm, threat model): a search for an image that the classifier gets wrong."""

    kind: ClassVar[Kind] = Kind.ATTACK
    threat_model: SearchableThreatModel

    @property
    def stays_inside(self) -> bool:
        """Whether every returned image is in the threat model; otherwise the attack is not part of a union."""
        return True

    @property
    def gradient_free(self) -> bool:
        """Whether the search uses logits only."""
        return False

    @abstractmethod
    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None
    ) -> Adversarial:
        """Attack a batch without ids and codes; see `Search.__call__`."""

    def run(self, classifier: nn.Module, batch: Batch, noise: Noise) -> Adversarial:
        """Attack a batch with ids and codes, as the evaluation grid does."""
        return self(classifier, batch.images, batch.labels, seeds=noise.seeds)

    @torch.no_grad()
    def verify(self, classifier: nn.Module, batch: Batch, adversarial: Adversarial) -> Verified:
        """Measure a result again, from its params and images only."""
        region = self.threat_model.around(batch, classifier)
        size = region.size(adversarial.params)
        return Verified(reproduced(region, adversarial) & (size <= 1 + TOLERANCE), size)


def reproduced(region: Region, adversarial: Adversarial) -> Tensor:
    """Where the images are in [0, 1], equal to what their params give, and of finite size, `[N]`."""
    same = (region.perturb(adversarial.params) == adversarial.images).flatten(1).all(1)
    return same & in_box(adversarial.images) & adversarial.size.isfinite()
