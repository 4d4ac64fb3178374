"""Descriptions of what was measured, as JSON values: their digest, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest(description: Any) -> str:
    """SHA-256 of a description."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


_UNSET = "(unset)"


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """`key: old → new` for every leaf in which two configs or descriptions differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(old.keys() | new.keys())
        lines = []
        for key in keys:
            lines += differences(old.get(key, _UNSET), new.get(key, _UNSET), f"{path}.{key}".lstrip("."))
        return lines
    return [] if old == new else [f"{path}: {_brief(old)} → {_brief(new)}"]


def _brief(value: Any) -> str:
    return str(value) if len(str(value)) <= 40 else f"{str(value)[:39]}…"
