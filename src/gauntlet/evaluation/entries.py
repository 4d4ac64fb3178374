"""The entries of an attack suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gauntlet.attacks import Attack
from gauntlet.certificates import Certificate
from gauntlet.kinds import Kind, one_of
from gauntlet.transforms import Transform

Entry = Attack | Certificate | Transform
"""Each has a `kind` and a `threat_model`: a name, a bound, a unit."""


def check_named(aggregate: str, names: Sequence[str], entries: Mapping[str, Entry], kinds: Sequence[Kind]) -> None:
    """Refuse names an aggregate cannot take.

    Args:
        aggregate: its name.
        names: of the entries it is made of.
        entries: of the suite, by name.
        kinds: that it takes.

    Raises:
        ValueError: a name is none of the suite's, or the entry is of another kind.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{aggregate} names {names!r}: expected names of entries among {sorted(entries)}")
    if unknown := sorted(set(names) - entries.keys()):
        raise ValueError(f"{aggregate} names {unknown}, the suite has {sorted(entries)}: name entries of the suite")
    for name in names:
        if (kind := entries[name].kind) not in kinds:
            raise ValueError(f"{aggregate} names {name}, which is {kind.phrase}: expected {one_of(kinds)}")
