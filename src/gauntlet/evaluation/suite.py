"""A named set of attacks, and which of them form the union."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gauntlet.attacks import Attack


@dataclass(frozen=True)
class AttackSuite:
    """What a classifier has to go through.

    Args:
        attacks: by the name they have in tables.
        union: names of those under every one of which an example must stay right. All must keep their promise to
            stay inside their threat model.
    """

    attacks: Mapping[str, Attack]
    union: Sequence[str]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.union) - set(self.attacks))
        if unknown:
            raise ValueError(f"union names {unknown}, the suite has {sorted(self.attacks)}: name attacks of the suite")
        free = [name for name in self.union if not self.attacks[name].stays_inside]
        if free:
            raise ValueError(
                f"{free} do not promise to stay inside their threat model and join no union: give them a projection"
            )
