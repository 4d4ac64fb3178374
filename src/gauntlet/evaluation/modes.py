"""On whom a suite is run: all attacks on all examples, or the later ones on those still standing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

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
    """

    suffix: ClassVar[str] = "-survivors"

    def earlier(self, suite: AttackSuite, attack: str) -> list[str]:
        """Of an attack of the union, those of the union before it, in the suite's order."""
        if attack not in suite.union:
            return []
        names = list(suite.attacks)
        return [name for name in names[: names.index(attack)] if name in suite.union]
