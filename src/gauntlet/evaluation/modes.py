"""On which examples a suite is run: all of them, or the later attacks of the union on those still correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from gauntlet.errors import UserError
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.kinds import Kind


class Mode(Protocol):
    """What a user chooses with `mode=…`."""

    suffix: ClassVar[str]
    """Of a suite's name: what one mode measured is never shown as what the other did."""

    def earlier(self, suite: AttackSuite, entry: str) -> list[str]:
        """The entries that come before this one, and whose successes are left out of it."""


@dataclass(frozen=True)
class Full:
    """Every entry on every example: what columns of a table are made of."""

    suffix: ClassVar[str] = ""

    def earlier(self, suite: AttackSuite, entry: str) -> list[str]:
        """None."""
        return []


@dataclass(frozen=True)
class Survivors:
    """Attacks of the union only on examples that all earlier ones of the union left correct: its accuracy for less.

    The accuracy of such an attack by itself is not known afterwards. Attacks outside the union, and every other kind of
    entry, are run in full. The union is that of `Full`; in float32, where the last bit depends on the batch, but for
    examples of tiny margin.

    Args:
        first: attacks of the union that come before the others: cheap ones that break many spare dear ones the most.
    """

    suffix: ClassVar[str] = "-survivors"
    first: Sequence[str] = ()

    def earlier(self, suite: AttackSuite, entry: str) -> list[str]:
        """Of an attack of the union, the attacks and transforms of it before: `first`, then the suite's order.

        Raises:
            UserError: `first` names what is not in the union, or is no attack; or the suite has no union.
        """
        kinds = {name: one.kind for name, one in suite.entries.items()}
        members = [name for name in kinds if name in suite.union and kinds[name] in (Kind.ATTACK, Kind.TRANSFORM)]
        if strange := [name for name in self.first if name not in members]:
            raise UserError(f"mode.first names {strange}: expected attacks of the union, {members}")
        if entry not in members or kinds[entry] is not Kind.ATTACK:
            return []
        names = [*self.first, *(name for name in members if name not in self.first)]
        return names[: names.index(entry)]
