"""One search in progress: the examples still standing, and what is kept of every example."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from gauntlet.acceleration import Folding
from gauntlet.attacks.gradient import finite_gradient
from gauntlet.checks import check_answers, check_labels
from gauntlet.goals import Goal
from gauntlet.noise import Noise
from gauntlet.threats import Region
from gauntlet.threats.region import ForwardPass


class SearchState:
    """Searches look through it and never index the batch themselves.

    With an iterate that retires, an example stands until its goal is reached inside its region; then it leaves the
    batch, so that no pass is spent on it again, not even by a restart.
    """

    params: Tensor
    """Where the search is, `[n, …]`."""
    buffers: tuple[Tensor, ...]
    """What a search takes along (`[n, …]` each: momentum, step sizes); rows leave with their examples."""
    noise: Noise
    """The random numbers of this try, for those who stand."""
    restart: int
    """Which restart the try belongs to, counted from 0."""

    def __init__(
        self, classifier: nn.Module, region: Region, goal: Goal, noise: Noise, iterate: Iterate, folding: Folding
    ) -> None:
        self.classifier, self.region, self.goal = classifier, region, goal
        self._iterate, self._seeds, self._folding = iterate, noise, folding
        self._kept = region.zero()
        device = self._kept.device
        self._rows = torch.arange(len(self._kept), device=device)
        self._gain = torch.full((len(self._kept),), -torch.inf, dtype=self._kept.dtype, device=device)
        self._done = torch.zeros(len(self._kept), dtype=torch.bool, device=device)
        self._nan = torch.zeros_like(self._done)
        self._checked = False

    def __len__(self) -> int:
        """How many examples still stand, n."""
        return len(self._rows)

    def set_targets(self) -> int:
        """Let the goal see the clean images if it wants to; how many things it will aim at in turn."""
        self.goal = self.goal.with_targets(self._clean)
        return self.goal.num_targets

    def begin(self, restart: int, turn: int = 0) -> None:
        """A try from a start of its own; the first is the region's plain start."""
        attempt = restart * self.goal.num_targets + turn
        self.goal, self.restart = self.goal.at_target(turn), restart
        self.noise = self._seeds if attempt == 0 else self._seeds.stream(1 + attempt)  # 1 is the goal's
        self.params, self.buffers = self.region.start(self.noise), ()
        self._done = self._done.new_zeros(len(self))

    def evaluate(self) -> tuple[Tensor, ForwardPass]:
        """One forward at the params, with its graph: what is climbed, `[n]`, and all else that was seen."""
        gain, output = self._seen()
        if self._iterate.early_stop:
            self._remember(gain.detach(), *self._judged(output))
        return gain - self.region.penalty(self.params), output

    def evaluate_unbounded(self) -> tuple[Tensor, Tensor]:
        """A look for searches that leave the bound on their way: gain and where the goal is reached, `[n]` each.

        Only what lies inside the bound is remembered, by the size of the params.
        """
        gain, output = self._seen()
        if not self._iterate.early_stop:
            return gain, self.goal.reached(output.logits.detach())
        reached, inside = self._judged(output, self.region.size(self.params.detach()) <= 1)
        self._remember(gain.detach(), reached, inside)
        return gain, reached

    def gradient(self, ascent_logits: Tensor) -> Tensor:
        """The gradient at the params of what the last look gave to climb, `[n]`; 0 where it is not finite."""
        return finite_gradient(ascent_logits, self.params)

    def drop_finished(self) -> None:
        """Let the examples go whose goal was reached at the last look."""
        if not self._iterate.early_stop or not self._done.any():
            return
        standing = ~self._done
        self._rows, self.params = self._rows[standing], self.params.detach()[standing]
        self.buffers = tuple(part[standing] for part in self.buffers)
        self.region, self.goal = self.region.rows(standing), self.goal.rows(standing)
        self.noise, self._seeds = self.noise.rows(standing), self._seeds.rows(standing)
        self._done = self._done[standing]

    def end(self) -> None:
        """The try is over: what it found is kept."""
        self._iterate.finalize(self)

    def result(self) -> Tensor:
        """The params to return, `[N, …]`."""
        check_answers(self._nan)  # once, at the end: every look at it from Python makes a GPU wait
        return self._kept

    def keep(self) -> None:
        """Keep where the search is, whatever it is worth."""
        self._kept[self._rows] = self.params.detach().to(self._kept.dtype)

    @torch.no_grad()
    def _clean(self) -> Tensor:
        """What is climbed at the images as they are, `[n, K]` logits."""
        output = self.region.forward(self.classifier, self.region.zero())
        self._check(output.logits)
        return output.ascent_logits

    def _check(self, logits: Tensor) -> None:
        if not self._checked:
            check_labels(self.goal.labels, logits.shape[1])
            self._checked = True
        self._nan[self._rows] |= logits.detach().isnan().any(1)

    def _seen(self) -> tuple[Tensor, ForwardPass]:
        self.params = self.params.detach().requires_grad_()
        output = self.region.forward(self.classifier, self.params)
        self._check(output.logits)
        return self.goal.gain(output.ascent_logits), output

    @torch.no_grad()
    def _judged(self, output: ForwardPass, counts: Tensor | bool = True) -> tuple[Tensor, Tensor]:
        """Where the goal is reached and what is inside the region, `[n]` each.

        What is both is so for the network as it is: where folding may have tipped the balance, it is asked again.
        """
        inside = self.region.inside(self.params, output) & counts
        reached = self.goal.reached(output.logits)
        if not self._folding:
            return reached, inside
        low_margin = reached & inside
        if low_margin.any() and output.surrogate is None:  # how near a vote is to another, its counts do not tell
            low_margin &= self._folding.low_margin(output.logits)
        if low_margin.any():
            with self._folding.unfolded():
                plain = self.region.rows(low_margin).forward(self.classifier, self.params[low_margin])
            reached[low_margin] = self.goal.rows(low_margin).reached(plain.logits)
        return reached, inside

    @torch.no_grad()
    def _remember(self, gain: Tensor, reached: Tensor, inside: Tensor) -> None:
        """The point of highest gain inside the region, penalties aside: x itself where there was none."""
        self._done = reached & inside
        better = inside & ((gain > self._gain[self._rows]) | self._done)
        self._kept[self._rows[better]] = self.params.detach()[better]
        self._gain[self._rows[better]] = gain[better].to(self._gain.dtype)


class Iterate(Protocol):
    """Which of the points a search has seen is returned."""

    @property
    def early_stop(self) -> bool:
        """Whether an example may leave as soon as its goal is reached."""

    def finalize(self, state: SearchState) -> None:
        """At the end of a try."""
