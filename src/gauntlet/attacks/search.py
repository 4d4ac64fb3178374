"""The base class of searches inside a threat model: the public call and its guarantees."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from gauntlet.acceleration import Probe, folded
from gauntlet.attacks.attack import Adversarial, Attack
from gauntlet.attacks.iterates import Best
from gauntlet.attacks.state import Iterate, SearchState
from gauntlet.checks import at_least_float32, check_batch, guard
from gauntlet.data import Batch, unidentified
from gauntlet.goals import Objective, Untargeted
from gauntlet.noise import Noise, fresh_seeds
from gauntlet.scopes import evaluating, exact, frozen
from gauntlet.threats import Region, SearchableThreatModel
from gauntlet.varied import COST


@dataclass(frozen=True, kw_only=True)
class Search(Attack):
    """An attack that searches a threat model for images that a classifier gets wrong.

    Args:
        threat_model: the images to search.
        goal: the objective, and what counts as a success.
        iterate: which of the points seen is returned.
        restarts: number of tries, each from its own start; a later try skips the examples already successful.
            A goal of several targets has as many tries for each.
    """

    identity: ClassVar[str] = "search/1"
    threat_model: SearchableThreatModel
    goal: Objective = field(default_factory=Untargeted)
    iterate: Iterate = field(default_factory=Best)
    restarts: int = field(default=1, metadata=COST)

    def __post_init__(self) -> None:
        if self.restarts < 1 or (self.restarts > 1 and not self.iterate.early_stop):
            raise ValueError(
                f"{self.restarts} restarts of an attack that returns {type(self.iterate).__name__.lower()} iterates:"
                f" expected 1, or more with the best iterate, which remembers the earlier tries"
            )

    @final
    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None
    ) -> Adversarial:
        """Attack a batch without ids and codes: a threat model sees −1 for each id, and no codes.

        Args:
            classifier: images to logits; left unchanged (mode, parameters, buffers, gradients).
            images: `[N, C, H, W]`, values in [0, 1]. N may be 0. Half precision is too coarse for most bounds: the
                result for such images is float32.
            labels: `[N]`, the true classes.
            seeds: `[N]`, one integer per example. None draws them from the global generator.

        Raises:
            ValueError: images outside [0, 1], or not one label per image that is a class of the classifier.
            NotFiniteError: the classifier returned NaN.
            ThreatModelViolation: the search left its region or returned NaN, which is a bug in the attack.
        """
        noise = Noise(fresh_seeds(len(images), images.device) if seeds is None else seeds)
        return self.run(classifier, unidentified(images, labels), noise)

    @final
    def run(self, classifier: nn.Module, batch: Batch, noise: Noise) -> Adversarial:
        """Attack a batch as `__call__` does, with given ids, codes and random numbers."""
        check_batch(batch.images, batch.labels)
        images, labels = at_least_float32(batch.images.detach()), batch.labels.long()
        batch = batch._replace(images=images, labels=labels)
        # An example may be dropped early only after a full-precision forward of the very image that is returned.
        precision = exact() if self.iterate.early_stop else nullcontext()
        with (
            frozen(classifier),
            evaluating(classifier),
            torch.enable_grad(),
            precision,
            folded(classifier, images, self._probe(classifier, batch.rows(slice(1)), noise)) as folding,
        ):
            region = self.threat_model.around(batch, classifier)
            if not len(images):
                return _adversarial(region, region.zero())
            goal = self.goal.bind(labels, noise.stream(1))
            state = SearchState(classifier, region, goal, noise, self.iterate, folding)
            num_targets = state.set_targets()
            if num_targets > 1 and not self.iterate.early_stop:
                iterate = type(self.iterate).__name__.lower()
                raise ValueError(
                    f"{num_targets} targets and {iterate} iterates: only the last target's try would be returned;"
                    f" use the best iterate, or one target"
                )
            for restart, target_index in product(range(self.restarts), range(num_targets)):
                state.begin(restart, target_index)
                self.search(state)
                state.end()
                if not len(state):
                    break
            adversarial = _adversarial(region, state.result())
        guard(adversarial.images, adversarial.size, type(self).__name__, self.stays_inside)
        return adversarial

    @abstractmethod
    def search(self, state: SearchState) -> None:
        """The algorithm: evaluate, move, drop finished examples."""

    def _probe(self, classifier: nn.Module, example: Batch, noise: Noise) -> Probe:
        """The outputs that the search computes first for one example: logits, and φ where there is one."""

        def probe() -> list[Tensor]:
            region = self.threat_model.around(example, classifier)
            start = region.start(Noise(noise.seeds[:1])).detach().requires_grad_()
            output = region.forward(classifier, start)
            return [tensor.detach() for tensor in (output.logits, output.ascent_logits, *output.embedding)]

        return probe


@torch.no_grad()
def _adversarial(region: Region, params: Tensor) -> Adversarial:
    images = region.perturb(params)
    return Adversarial(images, params, region.size(params) if len(params) else images.new_zeros(0))
