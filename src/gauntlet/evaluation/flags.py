"""Sanity flags: results of checks that can make a number of the table doubtful. A flag marks a cell, it never hides it.

After Carlini et al., "On evaluating adversarial robustness", 2019, and Athalye et al., "Obfuscated gradients give a
false sense of security", ICML 2018. This module has the flag and its file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gauntlet.files import read_json, write_atomically


@dataclass(frozen=True)
class Flag:
    """The result of one check.

    Args:
        name: name of the check.
        attack: entry whose cell it marks; None for all cells of the classifier.
        value: measured share; larger is worse.
        threshold: the largest acceptable value.
        explanation: what was measured, and what a value above the threshold means.
    """

    name: str
    attack: str | None
    value: float
    threshold: float
    explanation: str

    @property
    def raised(self) -> bool:
        """Whether the value is above the threshold."""
        return self.value > self.threshold


def write_flags(folder: Path, suite: str, checkpoint: str, flags: Sequence[Flag]) -> None:
    """Write the flags of an evaluation into its run folder: `suites/flags/<suite>.json`.

    Args:
        folder: the run folder.
        suite: name of the suite.
        checkpoint: SHA-256 of the weights that were checked.
        flags: all flags, raised or not.
    """
    content = {"checkpoint": checkpoint, "flags": [{**asdict(flag), "raised": flag.raised} for flag in flags]}
    write_atomically(_file(folder, suite), json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_flags(folder: Path, suite: str, checkpoint: str) -> list[Flag] | None:
    """Read the flags of an evaluation; None if these weights were not checked."""
    if not _file(folder, suite).exists():
        return None
    content: dict[str, Any] = read_json(_file(folder, suite))
    if content["checkpoint"] != checkpoint:
        return None
    return [Flag(**{field.name: kept[field.name] for field in fields(Flag)}) for kept in content["flags"]]


def _file(folder: Path, suite: str) -> Path:
    return folder / "suites" / "flags" / f"{suite}.json"


def rising(attack: str, rise: float) -> Flag:
    """Return the flag for accuracy that is higher by `rise` at this bound than at the next smaller one."""
    why = "accuracy at this bound minus accuracy at the next smaller one: it cannot rise unless the attack fails"
    return Flag("bound", attack, max(0.0, rise), 0.005, why)


def share(holds: Iterable[Any]) -> float:
    """Return the share of true values, in [0, 1]; 0 if there are none."""
    values = [bool(value) for value in holds]
    return sum(values) / len(values) if values else 0.0
