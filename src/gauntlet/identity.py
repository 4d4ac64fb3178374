"""What makes two attacks the same attack: their classes, their numbers, the weights they look through.

An attack is a tree of frozen dataclasses of plain values, so its identity is read off the objects and is the same with
and without a config. Networks count by architecture here; their weights are a second part of every identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

PLACE: Mapping[str, bool] = {"identity": False}
"""Metadata of a dataclass field that says where something lies: no part of what it is."""


def describe(thing: Any) -> Any:
    """The thing as plain JSON values: class names and field values, all the way down."""
    if isinstance(thing, float) and thing.is_integer():
        return int(thing)  # 1 and 1.0 are the same bound
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, nn.Module):
        shapes = {name: list(tensor.shape) for name, tensor in thing.state_dict().items()}
        return {"network": type(thing).__qualname__, "architecture": digest([str(thing), shapes])}
    if is_dataclass(thing) and not isinstance(thing, type):
        kept = (field for field in fields(thing) if field.metadata.get("identity", True))
        values = {field.name: describe(getattr(thing, field.name)) for field in kept}
        return {"class": f"{type(thing).__module__}.{type(thing).__qualname__}", **values}
    if isinstance(thing, Mapping):
        return [[str(key), describe(value)] for key, value in thing.items()]  # attacks in turn: the order counts
    if isinstance(thing, Sequence):
        return [describe(value) for value in thing]
    raise TypeError(
        f"{type(thing).__qualname__} has no identity: an attack is made of dataclasses, numbers, strings and networks"
    )


def digest(description: Any) -> str:
    """SHA-256 of a description."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


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
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """`key: old → new` for every leaf in which two configs or descriptions differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(old.keys() | new.keys())
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    return [] if old == new else [f"{path}: {_brief(old)} → {_brief(new)}"]


def _brief(value: Any) -> str:
    return str(value) if len(str(value)) <= 40 else f"{str(value)[:39]}…"
