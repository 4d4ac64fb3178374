"""Which point of a search is returned: the last, as in the paper, or the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from gauntlet.attacks.quest import Quest


@dataclass(frozen=True)
class Last:
    """Where the search ended. All examples walk all the way: what training uses."""

    retires: ClassVar[bool] = False

    def settle(self, quest: Quest) -> None:
        """The current params."""
        quest.keep()


@dataclass(frozen=True)
class Best:
    """The point of highest gain inside the region. An example leaves once its goal is reached: for evaluation."""

    retires: ClassVar[bool] = True

    def settle(self, quest: Quest) -> None:
        """A last look: the best of all points looked at, the current one included."""
        if len(quest):
            with torch.no_grad():
                quest.look()
            quest.retire()
