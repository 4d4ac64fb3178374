"""Evaluation modes: run attacks on all examples, or later attacks of the union only on those still correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from gauntlet.errors import UserError
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.kinds import Kind


class Mode(Protocol):
    """The choice `mode=…`."""

    suffix: ClassVar[str]
    """Suffix of the suite's name, so that results of different modes are kept under different names."""

    def earlier(self, suite: AttackSuite, entry: str) -> list[str]:
        """Return the entries that run before this one; it skips the examples that they break."""


@dataclass(frozen=True)
class Full:
    """Run every entry on every example, so that each has an accuracy of its own."""

    suffix: ClassVar[str] = ""

    def earlier(self, suite: AttackSuite, entry: str) -> list[str]:
        """Return nothing: no example is skipped."""
        return []


@dataclass(frozen=True)
class Survivors:
    """Run each attack of the union only on examples that all earlier ones left correct: union accuracy at less cost.

    The accuracy under such an attack alone is unknown afterwards. Attacks outside the union and all other kinds of
    entries are run on every example. The union accuracy is that of `Full`; in float32, where the last bit depends on
    the batch, examples of tiny margin may differ.

    Args:
        first: attacks of the union to run before the others: cheap ones that break many examples save the most time.
    """

    suffix: ClassVar[str] = "-survivors"
    first: Sequence[str] = ()

    def earlier(self, suite: AttackSuite, entry: str) -> list[str]:
        """Return the attacks and transforms of the union that run before an attack: `first`, then the suite's order.

        Raises:
            UserError: `first` names an entry outside the union or one that is no attack, or the suite has no union.
        """
        kinds = {name: one.kind for name, one in suite.entries.items()}
        members = [name for name in kinds if name in suite.union and kinds[name] in (Kind.ATTACK, Kind.TRANSFORM)]
        if unknown := [name for name in self.first if name not in members]:
            what = f"attacks or transforms of the union, {members}" if members else "none, for the suite has no union"
            raise UserError(f"mode.first names {unknown}: expected {what}")
        if entry not in members or kinds[entry] is not Kind.ATTACK:
            return []
        order = [*self.first, *(name for name in members if name not in self.first)]
        return order[: order.index(entry)]
