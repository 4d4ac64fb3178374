"""Which point of a search is returned: the last, as in the papers, the first that will do, or the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from gauntlet.attacks.state import SearchState


@dataclass(frozen=True)
class Last:
    """Where the search ended. All examples walk all the way: what training uses."""

    identity: ClassVar[str] = "last/1"
    early_stop: ClassVar[bool] = False

    def finalize(self, state: SearchState) -> None:
        """The current params."""
        state.keep()


@dataclass(frozen=True)
class FirstSuccess:
    """Where the search ended for those who still stood; an example stops where its goal is first reached inside.

    As LPA is published, but the point returned is the one that was seen, not the one a step further.
    """

    identity: ClassVar[str] = "first_success/1"
    early_stop: ClassVar[bool] = True

    def finalize(self, state: SearchState) -> None:
        """The current params of those who stand."""
        state.keep()


@dataclass(frozen=True)
class Best:
    """The point of highest gain inside the region. An example leaves once its goal is reached: for evaluation."""

    identity: ClassVar[str] = "best/1"
    early_stop: ClassVar[bool] = True

    def finalize(self, state: SearchState) -> None:
        """A last look: the best of all points looked at, the current one included."""
        if len(state):
            with torch.no_grad():
                state.evaluate()
            state.drop_finished()
