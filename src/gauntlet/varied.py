"""Declarations of the fields that checks vary, in the metadata of the fields; `bound` is declared by its name.

The sanity checks double the steps of a search, draw the widest noise of a threat model, and use another bound; a
rehearsal runs every search as short as possible. A field is declared by `field(default=40, metadata=STEPS)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

_VARIES = "varies"
STEPS: Mapping[str, str] = {_VARIES: "steps"}
"""A number of gradient steps: more of them never make a search weaker."""
COST: Mapping[str, str] = {_VARIES: "cost"}
"""Any other number that the cost increases with: queries, restarts, samples."""
SPREAD: Mapping[str, str] = {_VARIES: "spread"}
"""The spread of the starts of searches, as a share of the bound."""
BOUND: Mapping[str, str] = {_VARIES: "bound"}
"""A bound; a field named `bound` needs no declaration."""


def role_of(name: str, metadata: Mapping[Any, Any]) -> str | None:
    """The declared role of a field; None without one."""
    declared: str | None = metadata.get(_VARIES)
    return "bound" if declared is None and name == "bound" else declared


def scaled(thing: Any, role: Mapping[str, str], factor: int) -> Any:
    """A copy of a tree of dataclasses with every number of a role multiplied; see `altered`."""
    return altered(thing, role, lambda value: value * factor if value else value)


def altered(thing: Any, role: Mapping[str, str], change: Callable[[Any], Any]) -> Any:
    """A copy of a tree of dataclasses with every number of a role changed; the same object if nothing changes.

    Raises:
        ValueError: a class rejects the new number.
    """
    if isinstance(thing, Mapping):
        changed: Any = {key: altered(value, role, change) for key, value in thing.items()}
        return changed if any(changed[key] is not value for key, value in thing.items()) else thing
    if isinstance(thing, list | tuple):
        items = [altered(value, role, change) for value in thing]
        return type(thing)(items) if any(a is not b for a, b in zip(items, thing, strict=True)) else thing
    if not is_dataclass(thing) or isinstance(thing, type):
        return thing
    changes = {}
    for part in fields(thing):
        if not part.init:
            continue
        value = getattr(thing, part.name)
        declared = role_of(part.name, part.metadata) == role[_VARIES]
        number = declared and isinstance(value, int | float) and not isinstance(value, bool)
        new = change(value) if number else altered(value, role, change)
        if new is not value and not (number and new == value):
            changes[part.name] = new
    return replace(thing, **changes) if changes else thing


def shortened(thing: Any) -> Any:
    """A copy of a search with all steps and costs 1, also of the attacks inside it; None where it declares neither."""
    if not is_dataclass(thing) or isinstance(thing, type):
        return None
    lengths = [part.name for part in fields(thing) if role_of(part.name, part.metadata) in ("steps", "cost")]
    changed: dict[str, Any] = {}
    for part in fields(thing):
        name, value = part.name, getattr(thing, part.name)
        if name in lengths and isinstance(value, int) and value > 1:
            changed[name] = 1
        elif name == "attacks" and isinstance(value, Mapping):
            changed[name] = {key: shortened(attack) or attack for key, attack in value.items()}
    return replace(thing, **changed) if changed or lengths else None
