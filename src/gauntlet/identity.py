"""Identities of attacks: their classes, their numbers, and the weights of their networks.

An attack is a tree of frozen dataclasses of plain values, from which its identity is computed, with or without a
config. A class is identified by the name and version that it declares (`gauntlet.class_identity`), a field by its value
if that is not its default. So moving or renaming a class, or adding a field with a default, changes no identity; a
change of what is computed, or of a default, needs a new version. Networks are described by architecture here; their
weights are a second part of every identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from torch import nn

from gauntlet.architecture import architecture, bytes_of
from gauntlet.class_identity import class_identity, declared_identity
from gauntlet.descriptions import digest

PLACE: Mapping[str, bool] = {"identity": False}
"""Metadata of a dataclass field that is only a path or location: not part of the identity."""


def describe(thing: Any) -> Any:
    """Describe an object as JSON values, recursively: declared classes, and the fields that differ from their defaults.

    Raises:
        UserError: a class declares no identity, and its source cannot be read.
        TypeError: the object is not a possible part of an attack.
    """
    if isinstance(thing, float) and thing.is_integer():
        return int(thing)  # 1 and 1.0 are the same bound
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, nn.Module):
        return {"network": class_identity(type(thing)), "architecture": digest(architecture(thing))}
    if is_dataclass(thing) and not isinstance(thing, type):
        values = {field.name: describe(getattr(thing, field.name)) for field in _identifying(type(thing))}
        # The version of a declared class covers its defaults.
        defaults = described_defaults(type(thing)) if declared_identity(type(thing)) else {}
        changed = {name: value for name, value in values.items() if _differs(value, defaults.get(name, MISSING))}
        return {"class": class_identity(type(thing)), **changed}
    if isinstance(thing, Mapping):
        return [[str(key), describe(value)] for key, value in thing.items()]  # the order of attacks matters
    if isinstance(thing, Sequence):
        return [describe(value) for value in thing]
    raise TypeError(
        f"{type(thing).__qualname__} has no identity: an attack is made of dataclasses, numbers, strings and networks"
    )


def described_defaults(cls: type) -> dict[str, Any]:
    """The described default of every field of a dataclass that has one and is part of its identity."""
    defaults = {}
    for field in _identifying(cls):
        if field.default_factory is not MISSING:
            defaults[field.name] = describe(field.default_factory())
        elif field.default is not MISSING:
            defaults[field.name] = describe(field.default)
    return defaults


def _identifying(cls: type) -> Iterator[Field[Any]]:
    return (field for field in fields(cls) if field.metadata.get("identity", True))


def _differs(described: Any, default: Any) -> bool:
    return default is MISSING or json.dumps(described) != json.dumps(default)  # True == 1, but not here


def stream_of(thing: Any) -> int:
    """The stream of an attack's random numbers, derived from its identity."""
    return stream_of_identity(describe(thing))


def stream_of_identity(description: Any) -> int:
    """The stream of a description by `describe`."""
    return int(digest(description)[:15], 16)


def weights_of(thing: Any) -> list[str]:
    """SHA-256 of the weights of every network inside, in the order of the fields."""
    if isinstance(thing, nn.Module):
        return [weights_digest(thing)]
    if is_dataclass(thing) and not isinstance(thing, type):
        return [sha for field in fields(thing) for sha in weights_of(getattr(thing, field.name))]
    if isinstance(thing, Mapping):
        return [sha for value in thing.values() for sha in weights_of(value)]
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return [sha for value in thing for sha in weights_of(value)]
    return []


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of every tensor in a network's state, by name."""
    sha = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        sha.update(bytes_of(tensor))
    return sha.hexdigest()
