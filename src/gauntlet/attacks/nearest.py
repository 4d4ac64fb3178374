"""The base class of iterative minimum-distance attacks, and their state: active examples, and the nearest of each."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from gauntlet.attacks.gradient import finite_gradient
from gauntlet.attacks.minimum_distance import MinimumDistanceAttack
from gauntlet.checks import check_answers, check_labels, in_box
from gauntlet.noise import Noise
from gauntlet.threats import Region
from gauntlet.threats.l2 import per_image
from gauntlet.threats.region import ForwardPass


class NearestState:
    """The batch as a minimum-distance search sees it; searches never index the batch themselves.

    Every point evaluated is a candidate: the nearest misclassified one in [0, 1] is returned. An example is active
    until the search drops it; those whose clean image is misclassified are dropped before it begins.
    """

    params: Tensor
    """The current params, `[n, …]`; x itself at the beginning."""
    buffers: tuple[Tensor, ...]
    """The algorithm's state per example (`[n, …]` each); rows are dropped with their examples."""
    nearest: Tensor
    """The params of the nearest success so far, `[n, …]`; those of x itself where there is none."""
    distance: Tensor
    """Its distance, `[n]` float64; infinite where there is none."""

    def __init__(self, classifier: nn.Module, region: Region, labels: Tensor, noise: Noise) -> None:
        self.classifier, self.region, self.labels, self.noise = classifier, region, labels, noise
        self.params, self.buffers = region.zero(), ()
        self.nearest = region.zero()
        self.distance = torch.full((len(labels),), torch.inf, dtype=torch.float64, device=labels.device)
        self._result = region.zero()
        self._rows = torch.arange(len(labels), device=labels.device)
        self._nan = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        self.clean_logits = self._drop_misclassified()

    def __len__(self) -> int:
        """The number of active examples, n."""
        return len(self._rows)

    def evaluate(self) -> tuple[ForwardPass, Tensor]:
        """Run one forward at the params; return all outputs, with their graph, and where it is wrong, `[n]`.

        The params become a leaf of the graph. Costs 1F per active example.
        """
        self.params = self.params.detach().requires_grad_(torch.is_grad_enabled())
        output = self.region.forward(self.classifier, self.params)
        self._nan[self._rows] |= output.logits.detach().isnan().any(1)
        wrong = output.logits.detach().argmax(1) != self.labels
        self._remember(wrong)
        return output, wrong

    def gradient(self, objective: Tensor) -> Tensor:
        """The gradient of an objective `[n]` of the last evaluation at the params; 0 where it is not finite."""
        return finite_gradient(objective, self.params)

    def drop(self, finished: Tensor) -> None:
        """Drop examples, `[n]` booleans: their nearest success is final."""
        if not finished.any():
            return
        self._result[self._rows] = self.nearest.to(self._result.dtype)
        active = ~finished
        self._rows, self.labels, self.distance = self._rows[active], self.labels[active], self.distance[active]
        self.params, self.nearest = self.params.detach()[active], self.nearest[active]
        self.buffers = tuple(buffer[active] for buffer in self.buffers)
        self.region, self.noise = self.region.rows(active), self.noise.rows(active)

    def result(self) -> Tensor:
        """The params of the nearest successes, `[N, …]`."""
        check_answers(self._nan)  # once, at the end: reading it from Python makes a GPU wait
        self._result[self._rows] = self.nearest.to(self._result.dtype)
        return self._result

    @torch.no_grad()
    def _remember(self, wrong: Tensor) -> None:
        """Keep the params where they are a success nearer than before."""
        params = self.params.detach()
        distance = self.region.distance(params)
        nearer = wrong & in_box(self.region.perturb(params)) & (distance < self.distance)
        self.nearest = torch.where(per_image(nearer, params), params, self.nearest)
        self.distance = torch.where(nearer, distance, self.distance)

    @torch.no_grad()
    def _drop_misclassified(self) -> Tensor:
        """Drop the examples whose clean image is misclassified; return the clean logits of the rest, `[n, K]`."""
        output, wrong = self.evaluate()
        check_labels(self.labels, output.logits.shape[1])
        self.drop(wrong)
        return output.logits[~wrong]


@dataclass(frozen=True, kw_only=True)
class DistanceSearch(MinimumDistanceAttack):
    """A minimum-distance attack that moves the active examples and returns the nearest success it evaluated."""

    @final
    def nearest(self, classifier: nn.Module, region: Region, labels: Tensor, noise: Noise) -> Tensor:
        """See `MinimumDistanceAttack.nearest`."""
        state = NearestState(classifier, region, labels, noise)
        if len(state):
            self.search(state)
        return state.result()

    @abstractmethod
    def search(self, state: NearestState) -> None:
        """The algorithm: evaluate, move, drop finished examples. The clean images are evaluated already."""
