"""A named set of attacks, minimum-distance attacks, certificates and transforms, with aggregates over them.

`conf/attack_suite` has one file per suite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gauntlet.attacks import Attack
from gauntlet.certificates import Certificate
from gauntlet.evaluation.aggregate import Aggregate
from gauntlet.evaluation.entries import Entry
from gauntlet.kinds import IMAGE_KINDS, Kind, one_of
from gauntlet.transforms import Transform


@dataclass(frozen=True)
class AttackSuite:
    """The entries that a classifier is measured by, and the aggregates over them.

    Args:
        attacks: attacks, minimum-distance attacks and transforms, by their name in tables.
        certificates: certificates, by their name in tables.
        aggregates: aggregates, by their name in tables.
    """

    attacks: Mapping[str, Attack | Transform] = field(default_factory=dict)
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if both := sorted(self.attacks.keys() & self.certificates.keys()):
            raise ValueError(f"{both} name attacks and certificates: give each a name of its own")
        if taken := sorted(self.aggregates.keys() & self.entries.keys()):
            raise ValueError(f"{taken} name aggregates and entries of the suite: give each a name of its own")
        for part, kinds in ((self.attacks, IMAGE_KINDS), (self.certificates, [Kind.CERTIFICATE])):
            for name, entry in part.items():
                if getattr(entry, "kind", None) not in kinds:
                    raise ValueError(f"{name} is {_kind_of(entry)}: expected {one_of(kinds)} under that key")
        for name, aggregate in self.aggregates.items():
            if not callable(getattr(aggregate, "check", None)):
                raise ValueError(f"{name} is {_kind_of(aggregate)}: expected an aggregate, such as Union")
            aggregate.check(name, self.entries)

    @property
    def entries(self) -> dict[str, Entry]:
        """All entries by name, in the order in which they are run."""
        return {**self.attacks, **self.certificates}

    @property
    def bounded(self) -> dict[str, Attack]:
        """Attacks at a bound."""
        kinds = {name: entry.kind for name, entry in self.attacks.items()}
        attacks: Mapping[str, Any] = self.attacks
        return {name: attacks[name] for name, kind in kinds.items() if kind is Kind.ATTACK}

    @property
    def union(self) -> list[str]:
        """Members of the first union; empty if the suite has no union."""
        unions = [aggregate.conjunction(self.entries) for aggregate in self.aggregates.values()]
        return next((list(members) for members in unions if members), [])


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    kind = getattr(value, "kind", None)
    return kind.phrase if isinstance(kind, Kind) else f"of type {type(value).__name__}"
