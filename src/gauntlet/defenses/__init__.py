"""Defenses: one training regime per file, each a LightningModule."""

from gauntlet.defenses.adversarial import AdversarialTraining
from gauntlet.defenses.defense import Defense
from gauntlet.defenses.normal import NormalTraining
from gauntlet.defenses.schedules import warmup_and_drops

__all__ = ["AdversarialTraining", "Defense", "NormalTraining", "warmup_and_drops"]
