"""The state of one search: the active examples, and the params kept for every example."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from gauntlet.acceleration import Folding
from gauntlet.attacks.gradient import check_gain_has_gradient, finite_gradient
from gauntlet.checks import check_answers, check_labels
from gauntlet.goals import Goal
from gauntlet.noise import Noise
from gauntlet.threats import Region
from gauntlet.threats.region import ForwardPass


class SearchState:
    """The batch as a search sees it; searches never index the batch themselves.

    With an iterate that stops early, an example is active until its goal is reached inside its region. Then it is
    dropped from the batch, so that neither this try nor a later restart spends a pass on it.
    """

    params: Tensor
    """The current params, `[n, …]`."""
    buffers: tuple[Tensor, ...]
    """The algorithm's state per example (`[n, …]` each: momentum, step sizes); rows are dropped with their examples."""
    noise: Noise
    """The random numbers of this try, for the active examples."""
    restart: int
    """The restart that the try belongs to, counted from 0."""

    def __init__(
        self, classifier: nn.Module, region: Region, goal: Goal, noise: Noise, iterate: Iterate, folding: Folding
    ) -> None:
        self.classifier, self.region, self.goal = classifier, region, goal
        self._iterate, self._noise, self._folding = iterate, noise, folding
        self._result = region.zero()
        device = self._result.device
        self._rows = torch.arange(len(self._result), device=device)
        self._best_gain = torch.full((len(self._result),), -torch.inf, dtype=self._result.dtype, device=device)
        self._finished = torch.zeros(len(self._result), dtype=torch.bool, device=device)
        self._nan = torch.zeros_like(self._finished)
        self._labels_checked = self._gain_has_gradient = False

    def __len__(self) -> int:
        """The number of active examples, n."""
        return len(self._rows)

    def set_targets(self) -> int:
        """Let the goal choose its targets from the clean logits; return their number."""
        self.goal = self.goal.with_targets(self._clean_logits)
        return self.goal.num_targets

    def begin(self, restart: int, target_index: int = 0) -> None:
        """Begin a try from a start of its own; the first is the region's plain start."""
        attempt = restart * self.goal.num_targets + target_index
        self.goal = self.goal.at_target(target_index)
        self.restart = restart
        # The goal of a search draws from stream 1.
        self.noise = self._noise if attempt == 0 else self._noise.stream(1 + attempt)
        self.params = self.region.start(self.noise)
        self.buffers = ()
        self._finished = self._finished.new_zeros(len(self))

    def evaluate(self) -> tuple[Tensor, ForwardPass]:
        """Run one forward at the params; return the objective to ascend, `[n]`, with its graph, and all outputs."""
        gain, output = self._forward()
        if self._iterate.early_stop:
            self._remember(gain.detach(), *self._success(output))
        return gain - self.region.penalty(self.params), output

    def evaluate_unbounded(self) -> tuple[Tensor, Tensor]:
        """Evaluate for searches that leave the bound: gain and where the goal is reached, `[n]` each.

        Only params inside the bound, measured by their size, are remembered.
        """
        gain, output = self._forward()
        if not self._iterate.early_stop:
            return gain, self.goal.reached(output.logits.detach())
        reached, inside = self._success(output, self.region.size(self.params.detach()) <= 1)
        self._remember(gain.detach(), reached, inside)
        return gain, reached

    def gradient(self, objective: Tensor) -> Tensor:
        """The gradient of an objective `[n]` of the last evaluation at the params; 0 where it is not finite.

        Raises:
            ValueError: the classifier's part of it has no gradient, so that a penalty alone would be followed.
        """
        check_gain_has_gradient(self._gain_has_gradient)
        return finite_gradient(objective, self.params)

    def drop_finished(self) -> None:
        """Drop the examples whose goal was reached at the last evaluation."""
        if not self._iterate.early_stop or not self._finished.any():
            return
        active = ~self._finished
        self._rows, self.params = self._rows[active], self.params.detach()[active]
        self.buffers = tuple(buffer[active] for buffer in self.buffers)
        self.region, self.goal = self.region.rows(active), self.goal.rows(active)
        self.noise, self._noise = self.noise.rows(active), self._noise.rows(active)
        self._finished = self._finished[active]

    def end(self) -> None:
        """End the try: the iterate decides which params are kept."""
        self._iterate.finalize(self)

    def result(self) -> Tensor:
        """The params to return, `[N, …]`."""
        check_answers(self._nan)  # once, at the end: reading it from Python makes a GPU wait
        return self._result

    def keep(self) -> None:
        """Keep the current params, whatever their gain."""
        self._result[self._rows] = self.params.detach().to(self._result.dtype)

    @torch.no_grad()
    def _clean_logits(self) -> Tensor:
        """The logits to ascend at the clean images, `[n, K]`."""
        output = self.region.forward(self.classifier, self.region.zero())
        self._check(output.logits)
        return output.ascent_logits

    def _check(self, logits: Tensor) -> None:
        if not self._labels_checked:
            check_labels(self.goal.labels, logits.shape[1])
            self._labels_checked = True
        self._nan[self._rows] |= logits.detach().isnan().any(1)

    def _forward(self) -> tuple[Tensor, ForwardPass]:
        """The gain, `[n]`, and all outputs at the params, which become a leaf of the graph."""
        self.params = self.params.detach().requires_grad_()
        output = self.region.forward(self.classifier, self.params)
        self._check(output.logits)
        gain = self.goal.gain(output.ascent_logits)
        self._gain_has_gradient = gain.requires_grad
        return gain, output

    @torch.no_grad()
    def _success(self, output: ForwardPass, allowed: Tensor | bool = True) -> tuple[Tensor, Tensor]:
        """Where the goal is reached and which params are inside the region and allowed, `[n]` each.

        A success holds for the unfolded network: where folding may have changed the prediction, it is evaluated again.
        """
        inside = self.region.inside(self.params, output) & allowed
        reached = self.goal.reached(output.logits)
        if not self._folding:
            return reached, inside
        again = reached & inside
        # Logits of a classifier with a surrogate may be counts of votes, whose margin says nothing about rounding.
        if again.any() and output.surrogate is None:
            again &= self._folding.low_margin(output.logits)
        if again.any():
            with self._folding.unfolded():
                plain = self.region.rows(again).forward(self.classifier, self.params[again])
            reached[again] = self.goal.rows(again).reached(plain.logits)
        return reached, inside

    @torch.no_grad()
    def _remember(self, gain: Tensor, reached: Tensor, inside: Tensor) -> None:
        """Keep the params of highest gain inside the region, without penalties; zero params where there are none."""
        self._finished = reached & inside
        better = inside & ((gain > self._best_gain[self._rows]) | self._finished)
        self._result[self._rows[better]] = self.params.detach()[better]
        self._best_gain[self._rows[better]] = gain[better].to(self._best_gain.dtype)


class Iterate(Protocol):
    """Which of the points of a search is returned."""

    @property
    def early_stop(self) -> bool:
        """Whether an example is dropped as soon as its goal is reached."""

    def finalize(self, state: SearchState) -> None:
        """Keep params at the end of a try."""
