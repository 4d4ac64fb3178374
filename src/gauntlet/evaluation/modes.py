"""On whom a suite is run: all attacks on all examples, or the later ones on those still standing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from gauntlet.errors import UserError
from gauntlet.evaluation.suite import AttackSuite


class Mode(Protocol):
    """What a user chooses with `mode=…`."""

    suffix: ClassVar[str]
    """Of a suite's name: what one mode measured is never shown as what the other did."""

    def earlier(self, suite: AttackSuite, attack: str) -> list[str]:
        """The attacks that come before this one, and whose victims are left out of it."""


@dataclass(frozen=True)
class Full:
    """Every attack on every example: what columns of a table are made of."""

    suffix: ClassVar[str] = ""

    def earlier(self, suite: AttackSuite, attack: str) -> list[str]:
        """None."""
        return []


@dataclass(frozen=True)
class Survivors:
    """Attacks of the union only on examples that stood all earlier ones of the union: its accuracy for less work.

    The accuracy of such an attack by itself is not known afterwards. Attacks outside the union are run in full. The
    union is that of `Full`; in float32, where the last bit depends on the batch, but for examples of tiny margin.

    Args:
        first: attacks of the union that come before the others: cheap ones that break many spare dear ones the most.
    """

    suffix: ClassVar[str] = "-survivors"
    first: Sequence[str] = ()

    def earlier(self, suite: AttackSuite, attack: str) -> list[str]:
        """Of an attack of the union, those of the union before it: `first`, then the suite's order.

        Raises:
            UserError: `first` names what is not in the union.
        """
        if strange := [name for name in self.first if name not in suite.union]:
            raise UserError(f"mode.first names {strange}: expected attacks of the union, {list(suite.union)}")
        if attack not in suite.union:
            return []
        names = [*self.first, *(name for name in suite.attacks if name in suite.union and name not in self.first)]
        return names[: names.index(attack)]
