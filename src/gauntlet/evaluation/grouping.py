"""Group attacks by threat model: attacks of one group differ in their bounds alone and can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from gauntlet.class_identity import class_identity
from gauntlet.descriptions import digest
from gauntlet.evaluation.suite import AttackSuite
from gauntlet.identity import describe, weights_of
from gauntlet.threats import ThreatModel

Bounds = tuple[float, ...]
"""The bounds of all threat models inside one, in order: a composition has one for each part."""


def group_by_threat_model(suite: AttackSuite, names: Iterable[str]) -> dict[str, dict[Bounds, list[str]]]:
    """Names of attacks by digest of their threat model without its bounds, then by bounds.

    Attacks without a bound are left out. Two threat models are the same if they contain the same images: fields that
    only guide a search, such as the penalty on rough flows, are ignored; the weights of a distance are not.

    Args:
        suite: contains the attacks.
        names: the attacks to group.
    """
    groups: dict[str, dict[Bounds, list[str]]] = {}
    for name in names:
        threat_model = suite.entries[name].threat_model
        if threat_model.bound:
            family, bounds = family_of(threat_model)
            groups.setdefault(family, {}).setdefault(bounds, []).append(name)
    return groups


def family_of(threat_model: ThreatModel) -> tuple[str, Bounds]:
    """A digest of a threat model without its bounds, and the bounds."""
    bounds: list[float] = []
    content = _without_bounds(threat_model, bounds)
    return digest([content, weights_of(threat_model)]), tuple(bounds)


def next_smaller(bounds: Bounds, others: Iterable[Bounds]) -> list[Bounds]:
    """The largest of the other bounds that are nowhere above `bounds`; several where they are not ordered."""
    below = [other for other in others if other != bounds and _within(other, bounds)]
    return [one for one in below if not any(one != other and _within(one, other) for other in below)]


def _within(smaller: Bounds, larger: Bounds) -> bool:
    return all(small <= large for small, large in zip(smaller, larger, strict=True))


def _without_bounds(value: Any, bounds: list[float]) -> Any:
    """Describe a threat model by the fields that take part in its equality. Its bounds are appended to the list."""
    if isinstance(value, Mapping):
        return [[str(key), _without_bounds(item, bounds)] for key, item in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_bounds(item, bounds) for item in value]
    if not is_dataclass(value) or isinstance(value, type):
        return describe(value)
    description: dict[str, Any] = {"class": class_identity(type(value))}
    for field in fields(value):
        if not field.compare:
            continue
        item = getattr(value, field.name)
        if field.name == "bound":
            bounds.append(float(item))
        else:
            description[field.name] = _without_bounds(item, bounds)
    return description
