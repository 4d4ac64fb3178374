"""Every attack is tried on one image before anything expensive begins: one step of it, where it has steps."""

from __future__ import annotations

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
from gauntlet.varied import shortened


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
