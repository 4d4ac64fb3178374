"""Adversarial training: the classifier sees what an attack makes of each batch (Madry et al. 2018).

With Fast-LPA as its attack this is perceptual adversarial training (Laidlaw et al. 2021).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gauntlet.attacks import Adversarial, Attack
from gauntlet.data import Batch
from gauntlet.defenses.defense import Defense
from gauntlet.scopes import evaluating, frozen

_MONITOR = -1  # in the place of an epoch: the monitor attacks the same way after every epoch


class AdversarialTraining(Defense):
    """Cross-entropy on adversarial images alone.

    Args:
        attack: run on every batch in eval mode against the current weights.
        attack_wrong: also attack examples that the classifier already gets wrong. The paper leaves them clean.
        classifier: what is trained.
        optimizer: makes the optimizer of its parameters.
        schedule: makes the learning-rate schedule.
        seed: of every random number in training.
    """

    def __init__(self, attack: Attack, attack_wrong: bool = False, **training: Any) -> None:
        super().__init__(**training)
        if not attack.threat_model.bound > 0:
            raise ValueError(f"training bound {attack.threat_model.bound}: expected one above 0, or defense=normal")
        self.attack, self.attack_wrong = attack, attack_wrong

    @property
    def trained_on(self) -> list[str]:
        """The threat model of the attack."""
        return [self.attack.threat_model.name]

    def training_images(self, batch: Batch) -> Tensor:
        """Each image as the attack makes it, or clean where it is spared."""
        seeds = self.example_seeds(batch, self.current_epoch)
        clean = self._predictions(batch.images) == batch.labels
        chosen = torch.ones_like(clean) if self.attack_wrong else clean
        images = batch.images.clone()
        if chosen.any():
            found = self._attacked(Batch(images[chosen], batch.labels[chosen], batch.ids[chosen]), seeds[chosen])
            images[chosen] = found.images
            self._log("train", int(chosen.sum()), size=found.size.mean())
        self._log("train", len(clean), clean_accuracy=clean.float().mean())
        return images

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Clean accuracy, and accuracy under the attack trained on."""
        super().validation_step(batch, batch_idx)
        found = self._attacked(batch, self.example_seeds(batch, _MONITOR))
        right = self._predictions(found.images) == batch.labels
        self._log("val", len(right), adversarial_accuracy=right.float().mean())

    def _attacked(self, batch: Batch, seeds: Tensor) -> Adversarial:
        """In eval mode without parameter gradients, whoever wrote the attack."""
        with evaluating(self.classifier), frozen(self.classifier):
            return self.attack(self.classifier, batch.images, batch.labels, seeds=seeds)

    @torch.no_grad()
    def _predictions(self, images: Tensor) -> Tensor:
        with evaluating(self.classifier):
            predictions: Tensor = self.classifier(images).argmax(1)
        return predictions
