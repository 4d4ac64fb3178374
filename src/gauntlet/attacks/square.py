"""The Square attack: score-based random search without gradients.

Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search", ECCV 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from gauntlet.attacks.search import Search
from gauntlet.attacks.squares import proposals
from gauntlet.attacks.state import SearchState
from gauntlet.threats.l2 import per_image
from gauntlet.varied import COST

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of the window area, in ten-thousandths of the queries


@dataclass(frozen=True, kw_only=True)
class Square(Search):
    """Change a random window of the best image so far; keep the change if the gain rose.

    Costs at most `queries` + 2 forwards and no backward.

    Args:
        threat_model: `Linf`, `L2` or `L1`.
        goal: the objective; the paper's loss is the margin.
        iterate: which of the points seen is returned.
        restarts: tries from random starts.
        queries: number of proposals.
        share: p, the share of the image that the first windows cover.
    """

    identity: ClassVar[str] = "square/1"
    queries: int = field(default=5000, metadata=COST)
    share: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        proposals(self.threat_model)
        if self.queries < 0 or not 0 < self.share <= 1:
            raise ValueError(
                f"Square of {self.queries} queries with windows of a share {self.share}: expected queries ≥ 0 and a"
                f" share in (0, 1]"
            )

    @property
    def gradient_free(self) -> bool:
        """True."""
        return True

    @torch.no_grad()
    def search(self, state: SearchState) -> None:
        """Algorithm 1."""
        proposed = proposals(self.threat_model)
        state.params = proposed.first(state.region, state.noise)
        for query in range(self.queries + 1):
            gain, _ = state.evaluate()
            self._keep_better(state, gain)
            state.drop_finished()
            if not len(state):
                return
            if query < self.queries:
                progress = query * 10_000 // self.queries
                share = self.share / 2 ** sum(progress > halving for halving in _HALVINGS)
                state.params = proposed.next(state.region, state.buffers[0], share, state.noise, draw=2 + query)
        state.params = state.buffers[0]

    def _keep_better(self, state: SearchState, gain: torch.Tensor) -> None:
        params = state.params.detach()
        if not state.buffers:
            state.buffers = (params, gain)
            return
        best, best_gain = state.buffers
        better = gain > best_gain
        state.buffers = (torch.where(per_image(better, params), params, best), torch.where(better, gain, best_gain))
