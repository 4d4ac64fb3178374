"""Adversarial training: the classifier is trained on the adversarial images of an attack (Madry et al. 2018).

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
"""Epoch number of the monitor's seeds, so that it attacks with the same noise after every epoch."""

_SEARCHES = 0x61747461  # separates the streams of a step's further searches from those inside an attack


class Rehearsal(NamedTuple):
    """A search of a regime, with an example of the batch it is given in training."""

    name: str
    attack: Attack
    batch: Batch


class AdversarialDefense(Defense):
    """Base class of regimes that train under attack.

    Logs per step `clean_accuracy`, before the attack in eval mode; and, for each attack where there are several,
    `size`, the mean share of the bound used, `adversarial_accuracy` of the images trained on (clean where not
    attacked) and `attack_success`, the share of correctly classified examples that the attack changed to misclassified
    ones. The last two come from the step's own forward pass in train mode; `val/` has them in eval mode.

    Args:
        attacks: by name; run in eval mode against the current weights.
        attack_wrong: also attack examples that are misclassified when clean. The paper leaves them clean.
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
        self.attacks = dict(attacks)
        self.attack_wrong = attack_wrong

    @property
    def trained_on(self) -> list[str]:
        """Names of the threat models of the attacks."""
        return list(dict.fromkeys(attack.threat_model.name for attack in self.attacks.values()))

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """Return the losses of a batch, as in `Defense`."""

    def rehearsals(self, batch: Batch) -> list[Rehearsal]:
        """Return every search of the regime with a batch, to be tried before training begins."""
        return [Rehearsal(name, attack, batch) for name, attack in self.attacks.items()]

    def right(self, batch: Batch) -> Tensor:
        """Return which clean images are classified correctly, `[N]` booleans; logs the clean accuracy.

        A score above 0 counts as correct.
        """
        scores = self._scores(batch.images, batch.labels)
        self.note("train", clean_accuracy=scores)
        return scores > 0

    def to_attack(self, right: Tensor) -> Tensor:
        """Return which examples are attacked, `[N]` booleans."""
        return torch.ones_like(right) if self.attack_wrong else right

    def perturbed(self, name: str, batch: Batch, chosen: Tensor) -> Tensor:
        """Return adversarial images where `chosen`, clean ones elsewhere, `[N, C, H, W]`."""
        images = batch.images.clone()
        if chosen.any():
            seeds = self.attack_seeds(name, batch, self.current_epoch)[chosen]
            adversarial = self.attacked(self.attacks[name], batch.rows(chosen), seeds)
            images[chosen] = adversarial.images.to(images.dtype)
            self.note("train", **{f"size{self._suffix(name)}": adversarial.size})
        return images

    def note_attacked(self, name: str, logits: Tensor, labels: Tensor, right: Tensor) -> None:
        """Log accuracy and success rate of an attack.

        Args:
            name: of the attack.
            logits: of its images, `[N, K]`.
            labels: `[N]`.
            right: which clean images are classified correctly, `[N]` booleans.
        """
        scores = self.task.score(logits.detach(), labels)
        suffix = self._suffix(name)
        self.note("train", **{f"adversarial_accuracy{suffix}": scores})
        if right.any():
            self.note("train", **{f"attack_success{suffix}": (scores[right] == 0).float()})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log clean accuracy, and accuracy under the attacks trained on."""
        super().validation_step(batch, batch_idx)
        for name, attack in self.attacks.items():
            adversarial = self.attacked(attack, batch, self.attack_seeds(name, batch, MONITOR))
            scores = self._scores(adversarial.images, batch.labels)
            self.note("val", **{f"adversarial_accuracy{self._suffix(name)}": scores})

    def attack_seeds(self, name: str, batch: Batch, epoch: int) -> Tensor:
        """Return `[N]` seeds: the first attack has the examples' own, every other a stream of its own.

        So no two attacks of a step share their noise, and an attack added at the end changes none before it.
        """
        seeds = self.example_seeds(batch, epoch)
        index = list(self.attacks).index(name)
        return seeds if index == 0 else self.stream(seeds, index)

    @staticmethod
    def stream(seeds: Tensor, index: int) -> Tensor:
        """Return `[N]` seeds of a step's further search number `index`, counted from 1."""
        return Noise(seeds).stream(_SEARCHES + index).seeds

    def _suffix(self, name: str) -> str:
        return f"_{name}" if len(self.attacks) > 1 else ""

    def attacked(self, attack: Attack, batch: Batch, seeds: Tensor) -> Adversarial:
        """Run an attack in eval mode without parameter gradients."""
        with evaluating(self.classifier), frozen(self.classifier):
            return attack.run(self.classifier, batch, Noise(seeds))

    @torch.no_grad()
    def _scores(self, images: Tensor, labels: Tensor) -> Tensor:
        with evaluating(self.classifier):
            return self.task.score(self(images), labels)


class AdversarialTraining(AdversarialDefense):
    """The task's loss, such as cross-entropy, on the adversarial images of one attack.

    Args:
        attack: run on every batch.
        attack_wrong: also attack examples that are misclassified when clean. The paper leaves them clean.
        training: classifier, optimizer, schedule and seed, as in `Defense`.
    """

    def __init__(self, attack: Attack, attack_wrong: bool = False, **training: Any) -> None:
        super().__init__({attack.threat_model.name: attack}, attack_wrong, **training)

    @property
    def attack_name(self) -> str:
        """Name of the attack."""
        return next(iter(self.attacks))

    def training_images(self, batch: Batch, right: Tensor) -> Tensor:
        """Return the adversarial images, clean where an example is not attacked."""
        return self.perturbed(self.attack_name, batch, self.to_attack(right))

    def losses(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the adversarial images, `[N]`."""
        right = self.right(batch)
        outputs = self.outputs(self.training_images(batch, right))
        self.note_attacked(self.attack_name, outputs.logits, batch.labels, right)
        return self.loss(outputs, batch.labels)


class RandomAttackTraining(AdversarialDefense):
    """One of several attacks per step, drawn uniformly; the same one in every process (the paper's "all, random")."""

    def losses(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the images of the step's attack, `[N]`."""
        name = self.drawn(self.global_step)
        right = self.right(batch)
        outputs = self.outputs(self.perturbed(name, batch, self.to_attack(right)))
        self.note_attacked(name, outputs.logits, batch.labels, right)
        return self.loss(outputs, batch.labels)

    def drawn(self, step: int) -> str:
        """Return the attack of a step, a function of (seed, step), so that all processes draw the same."""
        names = list(self.attacks)
        return names[int(mix(self.seed, step)) % len(names)]


class AverageAttackTraining(AdversarialDefense):
    """Every attack on every example, K times the batch (the paper's "all, average"; Tramèr and Boneh 2019)."""

    def losses(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the images of all attacks, `[K·N]`."""
        right = self.right(batch)
        images = torch.cat([self.perturbed(name, batch, self.to_attack(right)) for name in self.attacks])
        outputs = self.outputs(images)
        for name, part in zip(self.attacks, outputs.logits.chunk(len(self.attacks)), strict=True):
            self.note_attacked(name, part, batch.labels, right)
        return self.loss(outputs, torch.cat([batch.labels] * len(self.attacks)))


class MaximumAttackTraining(AverageAttackTraining):
    """The largest loss of each example over all attacks (the paper's "all, maximum"; Tramèr and Boneh 2019)."""

    def losses(self, batch: Batch) -> Tensor:
        """Return the largest loss of each example, `[N]`."""
        return super().losses(batch).reshape(len(self.attacks), -1).amax(0)
