"""Adversarial training: the classifier sees what an attack makes of each batch (Madry et al. 2018).

With Fast-LPA as its attack this is perceptual adversarial training (Laidlaw et al. 2021).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gauntlet.attacks import Adversarial, Attack
from gauntlet.data import Batch
from gauntlet.defenses.defense import Defense
from gauntlet.noise import Noise, mix
from gauntlet.scopes import evaluating, frozen

MONITOR = -1
"""In the place of an epoch: the monitor attacks the same way after every epoch."""

_SEARCHES = 0x61747461  # keeps the streams of a step's further searches apart from those inside an attack


class Rehearsal(NamedTuple):
    """A search that a regime is going to run, and a batch as it will be given to it."""

    name: str
    attack: Attack
    batch: Batch


class AdversarialDefense(Defense):
    """What all regimes share that train under attack.

    Logged of a step: `clean_accuracy`, before the attack in eval mode; and, by attack where there are several, `size`,
    the mean share of the bound used, `adversarial_accuracy` of the images trained on (clean where they were spared) and
    `attack_success`, the share of those that were right and are wrong now. The last two are read off the step's own
    forward, in train mode, and cost nothing; `val/` has them in eval mode.

    Args:
        attacks: by name; run in eval mode against the current weights.
        attack_wrong: also attack examples that the classifier already gets wrong. The paper leaves them clean.
        training: classifier, optimizer, schedule and seed, as in `Defense`.
    """

    def __init__(self, attacks: Mapping[str, Attack], attack_wrong: bool = False, **training: Any) -> None:
        super().__init__(**training)
        if not attacks:
            raise ValueError("training under no attack: expected at least one, by name, or defense=normal")
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

    def rehearsals(self, batch: Batch) -> list[Rehearsal]:
        """Every search of the regime on a batch: what a launcher tries before training begins."""
        return [Rehearsal(name, attack, batch) for name, attack in self.attacks.items()]

    def right(self, batch: Batch) -> Tensor:
        """Where the classifier is right before any attack, `[N]` booleans; the clean accuracy is noted.

        A score above 0 is right: there is something to lose.
        """
        scores = self._scores(batch.images, batch.labels)
        self.note("train", len(scores), clean_accuracy=scores.mean())
        return scores > 0

    def to_attack(self, right: Tensor) -> Tensor:
        """Which examples are attacked, `[N]` booleans."""
        return torch.ones_like(right) if self.attack_wrong else right

    def perturbed(self, name: str, batch: Batch, chosen: Tensor) -> Tensor:
        """The images as an attack makes them where they are chosen, `[N, C, H, W]`; clean elsewhere."""
        images = batch.images.clone()
        if chosen.any():
            seeds = self.attack_seeds(name, batch, self.current_epoch)[chosen]
            found = self.attacked(self.attacks[name], batch.rows(chosen), seeds)
            images[chosen] = found.images.to(images.dtype)
            self.note("train", int(chosen.sum()), **{f"size{self._suffix(name)}": found.size.mean()})
        return images

    def note_attacked(self, name: str, logits: Tensor, labels: Tensor, right: Tensor) -> None:
        """Log what became of the examples under an attack.

        Args:
            name: of the attack.
            logits: of the images it made, `[N, K]`.
            labels: `[N]`.
            right: where the classifier was right before, `[N]` booleans.
        """
        scores, suffix = self.task.score(logits.detach(), labels), self._suffix(name)
        self.note("train", len(labels), **{f"adversarial_accuracy{suffix}": scores.mean()})
        if right.any():
            self.note("train", int(right.sum()), **{f"attack_success{suffix}": (scores[right] == 0).float().mean()})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Clean accuracy, and accuracy under the attacks trained on."""
        super().validation_step(batch, batch_idx)
        for name in self.attacks:
            found = self.attacked(self.attacks[name], batch, self.attack_seeds(name, batch, MONITOR))
            scores = self._scores(found.images, batch.labels)
            self.note("val", len(scores), **{f"adversarial_accuracy{self._suffix(name)}": scores.mean()})

    def attack_seeds(self, name: str, batch: Batch, epoch: int) -> Tensor:
        """`[N]`: the first attack has the examples' own seeds, each other a stream of its own.

        So no two attacks of a step begin from the same noise, and none changes with those that stand after it.
        """
        seeds, place = self.example_seeds(batch, epoch), list(self.attacks).index(name)
        return seeds if place == 0 else self.stream(seeds, place)

    @staticmethod
    def stream(seeds: Tensor, index: int) -> Tensor:
        """`[N]` seeds of a step's further search number `index`, counted from 1."""
        return Noise(seeds).stream(_SEARCHES + index).seeds

    def _suffix(self, name: str) -> str:
        return f"_{name}" if len(self.attacks) > 1 else ""

    def attacked(self, attack: Attack, batch: Batch, seeds: Tensor) -> Adversarial:
        """In eval mode without parameter gradients, whoever wrote the attack."""
        with evaluating(self.classifier), frozen(self.classifier):
            return attack.run(self.classifier, batch, Noise(seeds))

    @torch.no_grad()
    def _scores(self, images: Tensor, labels: Tensor) -> Tensor:
        with evaluating(self.classifier):
            return self.task.score(self(images), labels)


class AdversarialTraining(AdversarialDefense):
    """The task's loss on the adversarial images of one attack alone: cross-entropy of a classifier.

    Args:
        attack: run on every batch.
        attack_wrong: also attack examples that the classifier already gets wrong. The paper leaves them clean.
        training: classifier, optimizer, schedule and seed, as in `Defense`.
    """

    def __init__(self, attack: Attack, attack_wrong: bool = False, **training: Any) -> None:
        super().__init__({attack.threat_model.name: attack}, attack_wrong, **training)

    @property
    def attack_name(self) -> str:
        """The one there is."""
        return next(iter(self.attacks))

    def training_images(self, batch: Batch, right: Tensor) -> Tensor:
        """Each image as the attack makes it, or clean where it is spared."""
        return self.perturbed(self.attack_name, batch, self.to_attack(right))

    def losses(self, batch: Batch) -> Tensor:
        """Of the adversarial images, `[N]`."""
        right = self.right(batch)
        outputs = self.outputs(self.training_images(batch, right))
        self.note_attacked(self.attack_name, outputs.logits, batch.labels, right)
        return self.loss(outputs, batch.labels)


class RandomAttackTraining(AdversarialDefense):
    """One of several attacks per step, drawn uniformly; the same one in every process (the paper's "all, random")."""

    def losses(self, batch: Batch) -> Tensor:
        """Of the images of the step's attack, `[N]`."""
        name, right = self.drawn(self.global_step), self.right(batch)
        outputs = self.outputs(self.perturbed(name, batch, self.to_attack(right)))
        self.note_attacked(name, outputs.logits, batch.labels, right)
        return self.loss(outputs, batch.labels)

    def drawn(self, step: int) -> str:
        """The attack of a step: of (seed, step) alone, so that it needs no word between processes."""
        names = list(self.attacks)
        return names[int(mix(self.seed, step)) % len(names)]


class AverageAttackTraining(AdversarialDefense):
    """Every attack on every example, K times the batch (the paper's "all, average"; Tramèr and Boneh 2019)."""

    def losses(self, batch: Batch) -> Tensor:
        """Of the images of all attacks, `[K·N]`."""
        right = self.right(batch)
        images = torch.cat([self.perturbed(name, batch, self.to_attack(right)) for name in self.attacks])
        outputs = self.outputs(images)
        for name, part in zip(self.attacks, outputs.logits.chunk(len(self.attacks)), strict=True):
            self.note_attacked(name, part, batch.labels, right)
        return self.loss(outputs, torch.cat([batch.labels] * len(self.attacks)))


class MaximumAttackTraining(AverageAttackTraining):
    """Every example under the attack that hurts it most (the paper's "all, maximum"; Tramèr and Boneh 2019)."""

    def losses(self, batch: Batch) -> Tensor:
        """The largest loss of each example, `[N]`."""
        return super().losses(batch).reshape(len(self.attacks), -1).amax(0)
