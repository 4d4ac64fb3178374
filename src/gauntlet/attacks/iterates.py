"""Which point of a search is returned: the last, as in the papers, the first success, or the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from gauntlet.attacks.state import SearchState


@dataclass(frozen=True)
class Last:
    """The final params. No example stops early: used in training."""

    identity: ClassVar[str] = "last/1"
    early_stop: ClassVar[bool] = False

    def finalize(self, state: SearchState) -> None:
        """Keep the current params."""
        state.keep()


@dataclass(frozen=True)
class FirstSuccess:
    """The point where the goal is first reached inside the region, otherwise the final params.

    As LPA is published, except that the point evaluated is returned, not the one a step later.
    """

    identity: ClassVar[str] = "first_success/1"
    early_stop: ClassVar[bool] = True

    def finalize(self, state: SearchState) -> None:
        """Keep the current params of the active examples."""
        state.keep()


@dataclass(frozen=True)
class Best:
    """The point of highest gain inside the region. An example stops once its goal is reached: for evaluation."""

    identity: ClassVar[str] = "best/1"
    early_stop: ClassVar[bool] = True

    def finalize(self, state: SearchState) -> None:
        """Evaluate the final params too."""
        if len(state):
            with torch.no_grad():
                state.evaluate()
            state.drop_finished()
