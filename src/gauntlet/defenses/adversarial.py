"""Adversarial training: the classifier sees what an attack makes of each batch (Madry et al. 2018).

With Fast-LPA as its attack this is perceptual adversarial training (Laidlaw et al. 2021).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gauntlet.attacks import Adversarial, Attack
from gauntlet.data import Batch
from gauntlet.defenses.defense import Defense
from gauntlet.noise import mix
from gauntlet.scopes import evaluating, frozen

_MONITOR = -1  # in the place of an epoch: the monitor attacks the same way after every epoch


class AdversarialDefense(Defense):
    """What all regimes share that train under attack.

    Args:
        attacks: by name; run in eval mode against the current weights.
        attack_wrong: also attack examples that the classifier already gets wrong. The paper leaves them clean.
        training: classifier, optimizer, schedule and seed, as in `Defense`.
    """

    def __init__(self, attacks: Mapping[str, Attack], attack_wrong: bool = False, **training: Any) -> None:
        super().__init__(**training)
        for name, attack in attacks.items():
            if not attack.threat_model.bound > 0:
                bound = attack.threat_model.bound
                raise ValueError(f"training bound {bound} of {name}: expected one above 0, or defense=normal")
        self.attacks, self.attack_wrong = dict(attacks), attack_wrong

    @property
    def trained_on(self) -> list[str]:
        """The threat models of the attacks."""
        return list(dict.fromkeys(attack.threat_model.name for attack in self.attacks.values()))

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """As in `Defense`."""

    def to_attack(self, batch: Batch) -> Tensor:
        """Which examples are attacked, `[N]` booleans; the clean accuracy is noted."""
        right = self._predictions(batch.images) == batch.labels
        self.note("train", len(right), clean_accuracy=right.float().mean())
        return torch.ones_like(right) if self.attack_wrong else right

    def perturbed(self, name: str, batch: Batch, chosen: Tensor) -> Tensor:
        """The images as an attack makes them where they are chosen, `[N, C, H, W]`; clean elsewhere."""
        images = batch.images.clone()
        if chosen.any():
            seeds = self.example_seeds(batch, self.current_epoch)[chosen]
            found = self.attacked(self.attacks[name], Batch(*(part[chosen] for part in batch)), seeds)
            images[chosen] = found.images.to(images.dtype)
            self.note("train", int(chosen.sum()), **{f"size{self._suffix(name)}": found.size.mean()})
        return images

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Clean accuracy, and accuracy under the attacks trained on."""
        super().validation_step(batch, batch_idx)
        for name in self.attacks:
            found = self.attacked(self.attacks[name], batch, self.example_seeds(batch, _MONITOR))
            right = self._predictions(found.images) == batch.labels
            self.note("val", len(right), **{f"adversarial_accuracy{self._suffix(name)}": right.float().mean()})

    def _suffix(self, name: str) -> str:
        return f"_{name}" if len(self.attacks) > 1 else ""

    def attacked(self, attack: Attack, batch: Batch, seeds: Tensor) -> Adversarial:
        """In eval mode without parameter gradients, whoever wrote the attack."""
        with evaluating(self.classifier), frozen(self.classifier):
            return attack(self.classifier, batch.images, batch.labels, seeds=seeds)

    @torch.no_grad()
    def _predictions(self, images: Tensor) -> Tensor:
        with evaluating(self.classifier):
            predictions: Tensor = self.classifier(images).argmax(1)
        return predictions


class AdversarialTraining(AdversarialDefense):
    """Cross-entropy on the adversarial images of one attack alone.

    Args:
        attack: run on every batch.
        attack_wrong: also attack examples that the classifier already gets wrong. The paper leaves them clean.
        training: classifier, optimizer, schedule and seed, as in `Defense`.
    """

    def __init__(self, attack: Attack, attack_wrong: bool = False, **training: Any) -> None:
        super().__init__({attack.threat_model.name: attack}, attack_wrong, **training)

    def training_images(self, batch: Batch) -> Tensor:
        """Each image as the attack makes it, or clean where it is spared."""
        (name,) = self.attacks
        return self.perturbed(name, batch, self.to_attack(batch))

    def losses(self, batch: Batch) -> Tensor:
        """Of the adversarial images, `[N]`."""
        return self.cross_entropy(self.classifier(self.training_images(batch)), batch.labels)


class RandomAttackTraining(AdversarialDefense):
    """One of several attacks per step, drawn uniformly; the same one in every process (the paper's "all, random")."""

    def losses(self, batch: Batch) -> Tensor:
        """Of the images of the step's attack, `[N]`."""
        names = list(self.attacks)
        name = names[int(mix(self.seed, self.global_step)) % len(names)]
        images = self.perturbed(name, batch, self.to_attack(batch))
        return self.cross_entropy(self.classifier(images), batch.labels)


class AverageAttackTraining(AdversarialDefense):
    """Every attack on every example, K times the batch (the paper's "all, average"; Tramèr and Boneh 2019)."""

    def losses(self, batch: Batch) -> Tensor:
        """Of the images of all attacks, `[K·N]`."""
        chosen = self.to_attack(batch)
        images = torch.cat([self.perturbed(name, batch, chosen) for name in self.attacks])
        return self.cross_entropy(self.classifier(images), batch.labels.repeat(len(self.attacks)))


class MaximumAttackTraining(AverageAttackTraining):
    """Every example under the attack that hurts it most (the paper's "all, maximum"; Tramèr and Boneh 2019)."""

    def losses(self, batch: Batch) -> Tensor:
        """The largest loss of each example, `[N]`."""
        return super().losses(batch).reshape(len(self.attacks), -1).amax(0)
