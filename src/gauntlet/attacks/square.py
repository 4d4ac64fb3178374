"""The Square attack: random search by score, no gradient.

Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search", ECCV 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from gauntlet.attacks.quest import Quest
from gauntlet.attacks.search import Search
from gauntlet.attacks.squares import proposals
from gauntlet.threats.l2 import per_image
from gauntlet.varied import COST

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of the windows, in ten-thousandths of the queries


@dataclass(frozen=True, kw_only=True)
class Square(Search):
    """Change a random window of the best image so far; keep the change if the gain rose.

    Costs `queries` + 2 forwards and no backward; what falls earlier costs less.

    Args:
        threat_model: `Linf`, `L2` or `L1`.
        goal: what for; the paper's loss is the margin.
        iterate: which of the points seen comes back.
        restarts: tries from random starts.
        queries: proposals.
        share: p, of the image that the first windows cover.
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
        """True: it counts queries."""
        return True

    @torch.no_grad()
    def search(self, quest: Quest) -> None:
        """Algorithm 1."""
        proposed = proposals(self.threat_model)
        quest.params = proposed.first(quest.region, quest.noise)
        for query in range(self.queries + 1):
            gain, _ = quest.look()
            self._keep_the_better(quest, gain)
            quest.retire()
            if not len(quest):
                return
            if query < self.queries:
                share = self.share / 2 ** sum(query * 10_000 // self.queries > after for after in _HALVINGS)
                quest.params = proposed.next(quest.region, quest.carried[0], share, quest.noise, draw=2 + query)
        quest.params = quest.carried[0]

    def _keep_the_better(self, quest: Quest, gain: torch.Tensor) -> None:
        params = quest.params.detach()
        if not quest.carried:
            quest.carried = (params, gain)
            return
        best, best_gain = quest.carried
        better = gain > best_gain
        quest.carried = (torch.where(per_image(better, params), params, best), torch.where(better, gain, best_gain))
