"""Every attack is tried on one image before anything expensive begins: one step of it, where it has steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import nn

from gauntlet.attacks import Attack
from gauntlet.data import Batch
from gauntlet.errors import UserError, first_line
from gauntlet.evaluation import Entry
from gauntlet.kinds import Kind
from gauntlet.models import logits_of
from gauntlet.noise import Noise
from gauntlet.scopes import evaluating

_LENGTHS = ("steps", "queries", "searches", "restarts", "iterations", "samples")
"""What an attack of ours calls the numbers that its cost grows with."""


def rehearse_attack(attack: Attack, classifier: nn.Module, batch: Batch, what: str) -> None:
    """The attack, as short as it can be, on a batch; of one that does not say how long it is, the region alone.

    Whatever the labels are, the predictions stand in for them: an example that is wrong from the start would show
    nothing.

    Raises:
        UserError: in one line, what the attack said.
    """
    try:
        with evaluating(classifier):
            with torch.no_grad():
                attack.threat_model.around(batch, classifier)
                predictions = logits_of(classifier, batch.images).argmax(1)
            if (short := shortened(attack)) is not None:
                short.run(classifier, batch._replace(labels=predictions), Noise(batch.ids))
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{what}: {first_line(error)}") from error


def rehearse_entry(entry: Entry, classifier: nn.Module, batch: Batch, what: str) -> None:
    """An entry of a suite, whatever its kind, on a batch: an attack as above, a certificate as short as it can be.

    Raises:
        UserError: in one line, what the entry said.
    """
    work: Any = entry
    if entry.kind in (Kind.ATTACK, Kind.MINIMUM_DISTANCE):
        rehearse_attack(work, classifier, batch, what)
        return
    noise = Noise(batch.ids)
    try:
        if entry.kind is Kind.TRANSFORM:
            work(batch, noise)
        else:
            with evaluating(classifier), torch.no_grad():
                (shortened(work) or work)(classifier, batch.images, noise)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{what}: {first_line(error)}") from error


def shortened(attack: Any) -> Any:
    """The same attack with every length 1, parts included; None where there is nothing to shorten by."""
    if not is_dataclass(attack) or isinstance(attack, type):
        return None
    changed: dict[str, Any] = {}
    for name, value in ((field.name, getattr(attack, field.name)) for field in fields(attack)):
        if name in _LENGTHS and isinstance(value, int) and value > 1:
            changed[name] = 1
        elif name == "attacks" and isinstance(value, Mapping):
            changed[name] = {part: shortened(one) or one for part, one in value.items()}
    short = replace(attack, **changed)
    return short if changed or any(hasattr(attack, name) for name in _LENGTHS) else None
