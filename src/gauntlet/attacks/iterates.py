"""Which point of a search is returned: the last, as in the paper, or the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gauntlet.attacks.quest import Quest


@dataclass(frozen=True)
class Last:
    """Where the search ended. All examples walk all the way: what training uses."""

    retires: ClassVar[bool] = False

    def settle(self, quest: Quest) -> Tensor:
        """The current params."""
        return quest.params.detach()


@dataclass(frozen=True)
class Best:
    """The point of highest gain inside the region. An example leaves once its goal is reached: for evaluation."""

    retires: ClassVar[bool] = True

    def settle(self, quest: Quest) -> Tensor:
        """The best of all points looked at, the current one included."""
        if len(quest):
            with torch.no_grad():
                quest.look()
        return quest.kept()
