"""What every attack of ours shares: the public call, and what it promises."""

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
    """An attack: a search inside a threat model for images that a classifier gets wrong.

    Args:
        threat_model: where it searches.
        goal: what for.
        iterate: which of the points seen comes back.
        restarts: tries, each from a start of its own; an example that has fallen is left alone by the later ones.
            A goal that aims at several classes in turn has as many tries for each.
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
                f" expected 1, or more with the best iterate, which remembers the earlier ones"
            )

    @final
    def __call__(
        self, classifier: nn.Module, images: Tensor, labels: Tensor, *, seeds: Tensor | None = None
    ) -> Adversarial:
        """Attack a batch of which ids and codes are unknown: a threat model sees −1 for each id, and no codes.

        Args:
            classifier: images to logits; left as it was found (mode, parameters, buffers, gradients).
            images: `[N, C, H, W]`, values in [0, 1]. N may be 0. Half precision is too coarse for most bounds: what
                comes back for such images is float32.
            labels: `[N]`, the true classes.
            seeds: `[N]`, one integer per example. None draws them from the global generator.

        Raises:
            ValueError: images outside [0, 1], or not one label per image that is a class of the classifier.
            NotFiniteError: the classifier answered NaN.
            ThreatModelViolation: the search left its region or made NaN, which is a bug in the attack.
        """
        noise = Noise(fresh_seeds(len(images), images.device) if seeds is None else seeds)
        return self.run(classifier, unidentified(images, labels), noise)

    @final
    def run(self, classifier: nn.Module, batch: Batch, noise: Noise) -> Adversarial:
        """Attack a batch as `__call__` does, with random numbers of its own."""
        check_batch(batch.images, batch.labels)
        images, labels = at_least_float32(batch.images.detach()), batch.labels.long()
        batch = batch._replace(images=images, labels=labels)
        # Whoever may leave early does so on a full-precision forward of the very image that is returned.
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
                return _given_back(region, region.zero())
            goal = self.goal.bind(labels, noise.stream(1))
            state = SearchState(classifier, region, goal, noise, self.iterate, folding)
            num_targets = state.set_targets()
            if num_targets > 1 and not self.iterate.early_stop:
                kept = type(self.iterate).__name__.lower()
                raise ValueError(
                    f"{num_targets} targets in turn and {kept} iterates: only the last target's try would be left;"
                    f" use the best iterate, or one target"
                )
            for restart, turn in product(range(self.restarts), range(num_targets)):
                state.begin(restart, turn)
                self.search(state)
                state.end()
                if not len(state):
                    break
            found = _given_back(region, state.result())
        guard(found.images, found.size, type(self).__name__, self.stays_inside)
        return found

    @abstractmethod
    def search(self, state: SearchState) -> None:
        """The algorithm: look, move, retire."""

    def _probe(self, classifier: nn.Module, example: Batch, noise: Noise) -> Probe:
        """What the search sees first of a batch of one: logits, and φ where there is one."""

        def probe() -> list[Tensor]:
            region = self.threat_model.around(example, classifier)
            start = region.start(Noise(noise.seeds[:1])).detach().requires_grad_()
            output = region.forward(classifier, start)
            return [tensor.detach() for tensor in (output.logits, output.ascent_logits, *output.embedding)]

        return probe


@torch.no_grad()
def _given_back(region: Region, params: Tensor) -> Adversarial:
    images = region.perturb(params)
    return Adversarial(images, params, region.size(params) if len(params) else images.new_zeros(0))
