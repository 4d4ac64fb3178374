"""What every training regime shares: the classifier, its optimizer and schedule, the monitor on held-out data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gauntlet.data import Batch
from gauntlet.defenses.outputs import Outputs, outputs_of
from gauntlet.errors import NotFiniteError
from gauntlet.models import outputs_for
from gauntlet.models.border import answer_of
from gauntlet.noise import mix
from gauntlet.task import CLASSIFICATION, Task

OptimizerOf = Callable[[Iterable[nn.Parameter]], Optimizer]
ScheduleOf = Callable[..., LRScheduler]


class Defense(LightningModule):
    """A training regime.

    Args:
        classifier: what is trained.
        optimizer: makes the optimizer of its parameters.
        schedule: makes the learning-rate schedule of `(optimizer, steps_per_epoch=…)`, stepped every step.
        seed: of every random number in training.
    """

    task: Task = CLASSIFICATION
    """The dataset's, which `train.py` sets: the loss that is minimised, and the score that is logged as accuracy."""

    def __init__(self, classifier: nn.Module, optimizer: OptimizerOf, schedule: ScheduleOf, seed: int = 0) -> None:
        super().__init__()
        self.classifier, self.seed = classifier, seed
        self.optimizer_of, self.schedule_of = optimizer, schedule

    @property
    @abstractmethod
    def trained_on(self) -> list[str]:
        """Names of the threat models seen in training; the unseen mean leaves them out."""

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """What the regime makes of a batch: the terms whose mean is minimised.

        One train-mode forward, so that BatchNorm sees what the regime shows and nothing else.
        """

    def outputs(self, images: Tensor) -> Outputs:
        """What the classifier answers in train mode, with the logits of its auxiliary classifiers if it has some."""
        return outputs_of(answer_of(self.classifier, images), self.task)

    def loss(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """`[N]`: the task's loss of the logits, and the weighted ones of auxiliary classifiers."""
        loss = self.task.loss(outputs.logits, labels)
        for logits in outputs.auxiliary:
            loss = loss + outputs.weight * self.task.loss(logits, labels)
        return loss

    def forward(self, images: Tensor) -> Tensor:
        """The classifier's logits."""
        return outputs_for(self.task, self.classifier, images)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout and whatever else draws from torch's generator depend on the step alone, also after a resume."""
        torch.manual_seed(int(mix(self.seed, self.global_step, self.global_rank)))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean of the losses."""
        loss = self.losses(batch).mean()
        if not loss.isfinite():
            raise NotFiniteError(f"the training loss is {loss.item()}: lower the learning rate (optimizer.lr)")
        self.note("train", len(batch.labels), loss=loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Clean accuracy on held-out training data; regimes with an attack add theirs."""
        scores = self.task.score(self(batch.images), batch.labels)
        self.note("val", len(scores), accuracy=scores.mean())

    def configure_optimizers(self) -> Any:
        """The optimizer, and the schedule stepped every step."""
        optimizer = self.optimizer_of(self.classifier.parameters())
        epochs = self.trainer.max_epochs or 1
        schedule = self.schedule_of(optimizer, steps_per_epoch=int(self.trainer.estimated_stepping_batches) // epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def example_seeds(self, batch: Batch, epoch: int) -> Tensor:
        """`[N]`: from (seed, epoch, example id)."""
        return mix(self.seed, epoch, batch.ids)

    def note(self, stage: str, examples: int, **values: Tensor) -> None:
        """Log means over examples."""
        for name, value in values.items():
            bar = name in ("loss", "accuracy", "clean_accuracy") or name.startswith("adversarial_accuracy")
            self.log(f"{stage}/{name}", value, batch_size=examples, prog_bar=bar, sync_dist=stage == "val")
