"""Pictures of the training attacks on held-out images, drawn during training."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from gauntlet.data import Batch
from gauntlet.defenses import AdversarialDefense
from gauntlet.defenses.adversarial import MONITOR
from gauntlet.files import write_atomically
from gauntlet.picture_sheet import attacked_rows, sheet
from gauntlet.scopes import evaluating


class TrainingPictures(Callback):
    """Writes `pictures/training-<epoch>.png`: clean, adversarial, magnified difference; also sent to W&B.

    Args:
        every_epochs: interval; the last epoch is always drawn.
        count: number of images, the first of the validation split.
    """

    def __init__(self, every_epochs: int = 10, count: int = 8) -> None:
        if every_epochs < 1 or count < 1:
            raise ValueError(f"pictures of {count} images every {every_epochs} epochs: expected at least 1 of each")
        self.every_epochs, self.count = every_epochs, count

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the picture if it is due and the defense has attacks."""
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_epochs == 0 or epoch == trainer.max_epochs
        if not (due and trainer.is_global_zero and isinstance(pl_module, AdversarialDefense)):
            return
        file = Path(trainer.default_root_dir) / "pictures" / f"training-{epoch:04d}.png"
        write_atomically(file, self._drawn(trainer, pl_module))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("pictures/training", [str(file)])

    def _drawn(self, trainer: Trainer, defense: AdversarialDefense) -> bytes:
        validation = trainer.datamodule.splits.validation  # type: ignore[attr-defined]
        batch = validation[slice(0, self.count)].to(defense.device)
        rows = [("clean", batch.images.cpu(), _captions(defense, batch, batch.images))]
        for name, attack in defense.attacks.items():
            adversarial = defense.attacked(attack, batch, defense.attack_seeds(name, batch, MONITOR)).images
            captions = _captions(defense, batch, adversarial)
            rows += attacked_rows(name, batch.images.cpu(), adversarial.cpu(), captions)
        return sheet(rows)


@torch.no_grad()
def _captions(defense: AdversarialDefense, batch: Batch, images: Tensor) -> list[str]:
    with evaluating(defense.classifier):
        return defense.task.captions(defense(images), batch.labels)
