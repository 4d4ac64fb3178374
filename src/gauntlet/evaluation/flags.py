"""Sanity flags: what should make a reader doubt a number. A flag marks a cell of the table and never hides it.

After Carlini et al., "On evaluating adversarial robustness", 2019, and Athalye et al., "Obfuscated gradients give a
false sense of security", ICML 2018. Here: the flag itself and its file.
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
    """One check and what it measured.

    Args:
        name: of the check.
        attack: whose cell it marks; None for all cells of the classifier.
        value: a share; what is measured always grows with the trouble.
        threshold: the largest value that is nothing to worry about.
        explanation: what was measured, and what it means if it is too large.
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
    """Keep the flags of an evaluation in its run folder: `suites/flags/<suite>.json`.

    Args:
        folder: of the run.
        suite: its name.
        checkpoint: SHA-256 of the weights they are about.
        flags: raised or not.
    """
    content = {"checkpoint": checkpoint, "flags": [{**asdict(flag), "raised": flag.raised} for flag in flags]}
    write_atomically(_file(folder, suite), json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_flags(folder: Path, suite: str, checkpoint: str) -> list[Flag] | None:
    """The flags of an evaluation; None where these weights were not checked."""
    if not _file(folder, suite).exists():
        return None
    content: dict[str, Any] = read_json(_file(folder, suite))
    if content["checkpoint"] != checkpoint:
        return None
    return [Flag(**{field.name: kept[field.name] for field in fields(Flag)}) for kept in content["flags"]]


def _file(folder: Path, suite: str) -> Path:
    return folder / "suites" / "flags" / f"{suite}.json"


def rising(attack: str, rise: float) -> Flag:
    """That accuracy under an attack is higher, by `rise`, than at a smaller bound."""
    why = "accuracy at this bound minus accuracy at the next smaller one: it cannot rise unless the attack fails"
    return Flag("bound", attack, max(0.0, rise), 0.005, why)


def share(holds: Iterable[Any]) -> float:
    """The share of examples for which it holds, in [0, 1]; 0 of none."""
    answers = [bool(answer) for answer in holds]
    return sum(answers) / len(answers) if answers else 0.0
