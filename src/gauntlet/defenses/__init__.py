"""Defenses: one training regime per file, each a LightningModule."""

from gauntlet.defenses.adversarial import (
    AdversarialDefense,
    AdversarialTraining,
    AverageAttackTraining,
    MaximumAttackTraining,
    RandomAttackTraining,
)
from gauntlet.defenses.defense import Defense
from gauntlet.defenses.normal import NormalTraining
from gauntlet.defenses.schedules import warmup_and_drops
from gauntlet.defenses.trades import TRADES
from gauntlet.defenses.variation import VariationRegularised

__all__ = [
    "TRADES",
    "AdversarialDefense",
    "AdversarialTraining",
    "AverageAttackTraining",
    "Defense",
    "MaximumAttackTraining",
    "NormalTraining",
    "RandomAttackTraining",
    "VariationRegularised",
    "warmup_and_drops",
]
