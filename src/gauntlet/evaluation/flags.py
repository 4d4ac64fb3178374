"""Sanity flags: what should make a reader doubt a number. A flag marks a cell of the table and never hides it.

After Carlini et al., "On evaluating adversarial robustness", 2019, and Athalye et al., "Obfuscated gradients give a
false sense of security", ICML 2018. Here: the flag itself, its file, and what records alone can tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from gauntlet.attacks import PGD, Attack
from gauntlet.evaluation.families import families, next_smaller
from gauntlet.evaluation.measures import standing
from gauntlet.evaluation.suite import AttackSuite
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
    """The flags of an evaluation; None where nobody has checked these weights."""
    if not _file(folder, suite).exists():
        return None
    content: dict[str, Any] = read_json(_file(folder, suite))
    if content["checkpoint"] != checkpoint:
        return None
    return [Flag(**{field.name: kept[field.name] for field in fields(Flag)}) for kept in content["flags"]]


def _file(folder: Path, suite: str) -> Path:
    return folder / "suites" / "flags" / f"{suite}.json"


def recorded(suite: AttackSuite, outcomes: Mapping[str, pl.DataFrame]) -> list[Flag]:
    """What the records of a finished evaluation tell.

    Args:
        suite: its attacks.
        outcomes: by attack, of the same examples.
    """
    return [*_outside(outcomes), *_rising_with_the_bound(suite, outcomes), *_blind_beats_sighted(suite, outcomes)]


def _outside(outcomes: Mapping[str, pl.DataFrame]) -> list[Flag]:
    why = "share of records whose image was not inside the threat model: a bug in the attack; they count as not broken"
    return [Flag("outside", name, share(~frame["inside"]), 0.0, why) for name, frame in outcomes.items()]


def _rising_with_the_bound(suite: AttackSuite, outcomes: Mapping[str, pl.DataFrame]) -> list[Flag]:
    """Attacks of one threat model at several bounds: every larger one against the next smaller ones inside it."""
    found = []
    for family in families(suite, outcomes).values():
        for bounds, names in sorted(family.items()):
            if smaller := next_smaller(bounds, family):
                lowest = min(share(_under(outcomes, family[other])) for other in smaller)
                rise = share(_under(outcomes, names)) - lowest
                found += [rising(name, rise) for name in names]
    return found


def rising(attack: str, rise: float) -> Flag:
    """That accuracy under an attack is higher, by `rise`, than at a smaller bound."""
    why = "accuracy at this bound minus accuracy at the next smaller one: it cannot rise unless the attack fails"
    return Flag("bound", attack, max(0.0, rise), 0.005, why)


def _blind_beats_sighted(suite: AttackSuite, outcomes: Mapping[str, pl.DataFrame]) -> list[Flag]:
    """Attacks without gradients against those with them, in the same threat model."""
    why = "share of examples that an attack without gradients breaks and this one's kind does not: gradients mislead"
    found = []
    for family in families(suite, outcomes).values():
        for names in family.values():
            blind = [name for name in names if needs_no_gradient(suite.attacks[name])]
            sighted = [name for name in names if name not in blind]
            if blind and sighted:
                missed = share(_under(outcomes, sighted) & ~_under(outcomes, blind))
                found += [Flag("black box", name, missed, 0.002, why) for name in sighted]
    return found


def needs_no_gradient(attack: Attack) -> bool:
    """Whether an attack only asks for logits: random noise (PGD of no steps), or a search that counts queries."""
    return (isinstance(attack, PGD) and attack.steps == 0) or hasattr(attack, "queries")


def _under(outcomes: Mapping[str, pl.DataFrame], names: Sequence[str]) -> pl.Series:
    return standing([outcomes[name] for name in names])


def share(holds: Iterable[Any]) -> float:
    """The share of examples for which it holds, in [0, 1]; 0 of none."""
    answers = [bool(answer) for answer in holds]
    return sum(answers) / len(answers) if answers else 0.0
