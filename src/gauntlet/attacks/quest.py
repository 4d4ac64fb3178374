"""One search in progress: the examples still standing, and what is kept of every example."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from gauntlet.errors import NotFiniteError
from gauntlet.goals import Goal
from gauntlet.threats import Region
from gauntlet.threats.region import Look


class Quest:
    """Searches look through it and never index the batch themselves.

    With an iterate that retires, an example stands until its goal is reached inside its region; then it leaves the
    batch, so that no pass is spent on it again.
    """

    def __init__(self, classifier: nn.Module, region: Region, goal: Goal, params: Tensor, iterate: Iterate) -> None:
        self.classifier, self.region, self.goal = classifier, region, goal
        self.params = params
        self._iterate = iterate
        self._rows = torch.arange(len(params), device=params.device)
        self._kept = region.identity().to(params.dtype)
        self._gain = params.new_full((len(params),), -torch.inf)
        self._done = torch.zeros(len(params), dtype=torch.bool, device=params.device)
        self._nan = torch.zeros((), dtype=torch.bool, device=params.device)

    def __len__(self) -> int:
        """How many examples still stand, n."""
        return len(self._rows)

    def look(self) -> tuple[Tensor, Look]:
        """One forward at the params, with its graph: the goal's gain `[n]`, and all else that was seen."""
        self.params = self.params.detach().requires_grad_()
        look = self.region.look(self.classifier, self.params)
        gain = self.goal.gain(look.logits.to(torch.promote_types(look.logits.dtype, torch.float32)))
        gain = gain - self.region.penalty(self.params)
        self._nan |= gain.detach().isnan().any()
        if self._iterate.retires:
            self._remember(gain.detach(), look)
        return gain, look

    def retire(self) -> None:
        """Let the examples go whose goal was reached at the last look."""
        if not self._iterate.retires or not self._done.any():
            return
        standing = ~self._done
        self._rows, self.params = self._rows[standing], self.params.detach()[standing]
        self.region, self.goal = self.region.rows(standing), self.goal.rows(standing)
        self._done = self._done[standing]

    def result(self) -> Tensor:
        """The params to return, `[N, …]`."""
        params = self._iterate.settle(self)
        if self._nan:  # asked once, at the end: every look at it from Python makes a GPU wait
            raise NotFiniteError("the classifier answered NaN: such examples are neither right nor robust")
        return params

    def kept(self) -> Tensor:
        """What was remembered: the params of the highest gain seen inside the region, x itself where none was."""
        return self._kept

    @torch.no_grad()
    def _remember(self, gain: Tensor, look: Look) -> None:
        inside = self.region.inside(self.params, look)
        self._done = self.goal.reached(look.logits) & inside
        better = inside & ((gain > self._gain[self._rows]) | self._done)
        self._kept[self._rows[better]] = self.params.detach()[better]
        self._gain[self._rows[better]] = gain[better]


class Iterate(Protocol):
    """Which of the points a search has seen is returned."""

    @property
    def retires(self) -> bool:
        """Whether an example may leave as soon as its goal is reached."""

    def settle(self, quest: Quest) -> Tensor:
        """The params to return, `[N, …]`."""
