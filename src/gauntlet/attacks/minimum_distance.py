"""Minimum-distance attacks: searches for the nearest image that a classifier gets wrong."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from gauntlet.attacks.attack import Adversarial, Attack, Verified, reproduced
from gauntlet.checks import at_least_float32, check_batch, guard
from gauntlet.data import Batch, unidentified
from gauntlet.kinds import Kind
from gauntlet.noise import Noise, fresh_seeds
from gauntlet.scopes import evaluating, exact, frozen
from gauntlet.threats import Region, SearchableThreatModel


@dataclass(frozen=True, kw_only=True)
class MinimumDistanceAttack(Attack):
    """A search for the nearest misclassified image, in the unit of a threat model.

    The result does not depend on the bound: one run gives the accuracy at every bound.

    Args:
        threat_model: how images change, and their distance. A table shows the result at its bound.
    """

    kind: ClassVar[Kind] = Kind.MINIMUM_DISTANCE
    threat_model: SearchableThreatModel

    @final
    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None
    ) -> Adversarial:
        """Attack a batch without ids and codes: a threat model sees −1 for each id, and no codes.

        Args:
            classifier: images to logits; left unchanged (mode, parameters, buffers, gradients).
            images: `[N, C, H, W]`, values in [0, 1]. N may be 0.
            labels: `[N]`, the true classes.
            seeds: `[N]`, one integer per example. None draws them from the global generator.

        Raises:
            ValueError: images outside [0, 1], or not one label per image.
            ThreatModelViolation: the search left [0, 1] or returned NaN, which is a bug in the attack.
        """
        noise = Noise(fresh_seeds(len(images), images.device) if seeds is None else seeds)
        return self.run(classifier, unidentified(images, labels), noise)

    @final
    def run(self, classifier: nn.Module, batch: Batch, noise: Noise) -> Adversarial:
        """Attack a batch as `__call__` does, with given ids, codes and random numbers.

        `size` is the distance as a share of the bound; at a bound of 0 the distance itself.
        """
        check_batch(batch.images, batch.labels)
        batch = batch._replace(images=at_least_float32(batch.images.detach()), labels=batch.labels.long())
        with frozen(classifier), evaluating(classifier), torch.enable_grad(), exact():
            region = self.threat_model.around(batch, classifier)
            params = region.zero()
            if len(params):
                params = self.nearest(classifier, region, batch.labels, noise).detach()
            with torch.no_grad():
                images = region.perturb(params)
            adversarial = Adversarial(images, params, self._size(_distance(region, params)))
        guard(adversarial.images, adversarial.size, type(self).__name__, stays_inside=False)
        return adversarial

    @abstractmethod
    def nearest(self, classifier: nn.Module, region: Region, labels: Tensor, noise: Noise) -> Tensor:
        """The algorithm: return the params of the nearest misclassified images, `[N, …]`.

        Gradients are enabled, in full precision; parameters require none. Implementations must not use the bound, nor
        the methods of the region that depend on it (`start`, `project`, `ascend`, `size`).

        Args:
            classifier: in eval mode.
            region: computes images from params and measures their distance.
            labels: `[N]`, N > 0, the true classes.
            noise: random numbers per example.

        Returns:
            The params; those of the zero image where the clean image is misclassified, or nothing was found.
        """

    @torch.no_grad()
    def verify(self, classifier: nn.Module, batch: Batch, adversarial: Adversarial) -> Verified:
        """Measure a result again, from its params and images only; images count as inside at any distance."""
        with exact():
            region = self.threat_model.around(batch, classifier)
            distance = _distance(region, adversarial.params)
            return Verified(reproduced(region, adversarial), self._size(distance), distance)

    def _size(self, distance: Tensor) -> Tensor:
        return distance / self.threat_model.bound if self.threat_model.bound else distance


@torch.no_grad()
def _distance(region: Region, params: Tensor) -> Tensor:
    return region.distance(params) if len(params) else params.new_zeros(0, dtype=torch.float64)
