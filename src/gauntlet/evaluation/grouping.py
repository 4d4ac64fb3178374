"""Attacks that search the same threat model, at whatever bound: what can be held against each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from gauntlet.class_identity import class_identity
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.identity import describe, digest, weights_of
from gauntlet.threats import ThreatModel

Bounds = tuple[float, ...]
"""Of every threat model inside one, in order: a composition has one for each part."""


def families(suite: AttackSuite, names: Iterable[str]) -> dict[str, dict[Bounds, list[str]]]:
    """Attacks by threat model, whatever its bounds, and then by these. No attack without a bound is among them.

    What guides a search and leaves the set of images as it is, such as the price of rough flows, tells no two threat
    models apart; the weights of a distance do.

    Args:
        suite: the attacks.
        names: of those to sort.
    """
    found: dict[str, dict[Bounds, list[str]]] = {}
    for name in names:
        threat = suite.entries[name].threat_model
        if threat.bound:
            kind, bounds = family_of(threat)
            found.setdefault(kind, {}).setdefault(bounds, []).append(name)
    return found


def family_of(threat_model: ThreatModel) -> tuple[str, Bounds]:
    """A digest of a threat model whatever its bounds, and these."""
    bounds: list[float] = []
    kind = digest([_without_bounds(threat_model, bounds), weights_of(threat_model)])
    return kind, tuple(bounds)


def next_smaller(bounds: Bounds, others: Iterable[Bounds]) -> list[Bounds]:
    """Those of the others whose threat model lies in this one, with none of the others in between."""
    below = [other for other in others if other != bounds and _within(other, bounds)]
    return [one for one in below if not any(one != other and _within(one, other) for other in below)]


def _within(one: Bounds, other: Bounds) -> bool:
    return all(small <= large for small, large in zip(one, other, strict=True))


def _without_bounds(thing: Any, bounds: list[float]) -> Any:
    """The description of a threat model by the fields that make two of them equal; its bounds go to the list."""
    if isinstance(thing, Mapping):
        return [[str(key), _without_bounds(value, bounds)] for key, value in thing.items()]
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return [_without_bounds(value, bounds) for value in thing]
    if not is_dataclass(thing) or isinstance(thing, type):
        return describe(thing)
    kept: dict[str, Any] = {"class": class_identity(type(thing))}
    for field in (field for field in fields(thing) if field.compare):
        value = getattr(thing, field.name)
        if field.name == "bound":
            bounds.append(float(value))
        else:
            kept[field.name] = _without_bounds(value, bounds)
    return kept
