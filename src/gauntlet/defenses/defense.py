"""Base class of all training regimes: classifier, optimizer, schedule, and validation on held-out data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from gauntlet.data import Batch
from gauntlet.defenses.outputs import Outputs, outputs_of
from gauntlet.errors import NotFiniteError
from gauntlet.models import outputs_for
from gauntlet.models.border import raw_output
from gauntlet.noise import mix
from gauntlet.task import CLASSIFICATION, Task

OptimizerOf = Callable[[Iterable[nn.Parameter]], Optimizer]
ScheduleOf = Callable[..., LRScheduler]


class Defense(LightningModule):
    """A training regime.

    Args:
        classifier: the network to train.
        optimizer: makes the optimizer from its parameters.
        schedule: makes the learning-rate schedule from `(optimizer, steps_per_epoch=…)`, stepped every step.
        seed: of all random numbers in training.
    """

    task: Task = CLASSIFICATION
    """The dataset's, which `train.py` sets: the loss that is minimised, and the score that is logged as accuracy."""

    def __init__(self, classifier: nn.Module, optimizer: OptimizerOf, schedule: ScheduleOf, seed: int = 0) -> None:
        super().__init__()
        self.classifier = classifier
        self.seed = seed
        self.optimizer_of = optimizer
        self.schedule_of = schedule
        self._means: dict[str, MeanMetric] = {}

    @property
    @abstractmethod
    def trained_on(self) -> list[str]:
        """Names of the threat models seen in training; the unseen mean leaves them out."""

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """Return the terms whose mean over a batch is minimised.

        They come from one train-mode forward pass, so that BatchNorm's statistics are those of the training images.
        """

    def outputs(self, images: Tensor) -> Outputs:
        """Return the classifier's train-mode outputs: logits, and those of auxiliary classifiers if it has some."""
        return outputs_of(raw_output(self.classifier, images), self.task)

    def loss(self, outputs: Outputs, labels: Tensor) -> Tensor:
        """Return the task's loss of the logits plus the weighted one of auxiliary classifiers, `[N]`."""
        loss = self.task.loss(outputs.logits, labels)
        for logits in outputs.auxiliary:
            loss = loss + outputs.weight * self.task.loss(logits, labels)
        return loss

    def forward(self, images: Tensor) -> Tensor:
        """Return the classifier's logits."""
        return outputs_for(self.task, self.classifier, images)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed torch's generator from the step, so that dropout does not depend on where training was resumed."""
        torch.manual_seed(int(mix(self.seed, self.global_step, self.global_rank)))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean of the losses."""
        losses = self.losses(batch)
        loss = losses.mean()
        if not loss.isfinite():
            raise NotFiniteError(f"the training loss is {loss.item()}: lower the learning rate (optimizer.lr)")
        self.note("train", loss=losses)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log clean accuracy on held-out training data; regimes with attacks add theirs."""
        self.note("val", accuracy=self.task.score(self(batch.images), batch.labels))

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the schedule stepped every step."""
        optimizer = self.optimizer_of(self.classifier.parameters())
        epochs = self.trainer.max_epochs or 1
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.schedule_of(optimizer, steps_per_epoch=steps // epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def example_seeds(self, batch: Batch, epoch: int) -> Tensor:
        """Return `[N]` seeds, a function of (seed, epoch, example id)."""
        return mix(self.seed, epoch, batch.ids)

    def note(self, stage: str, **values: Tensor) -> None:
        """Log means over examples: in `train` of the step, in `val` of all batches and processes.

        torchmetrics accumulates those of validation. Of a step there is nothing to accumulate, and every metric would
        take half a millisecond of it.

        Args:
            stage: `train` or `val`.
            values: by name, `[n]` numbers of n > 0 examples.
        """
        for name, value in values.items():
            key = f"{stage}/{name}"
            bar = name in ("loss", "accuracy", "clean_accuracy") or name.startswith("adversarial_accuracy")
            logged = self._mean(key, value.detach()) if stage == "val" else value.detach().mean()
            self.log(key, logged, prog_bar=bar, metric_attribute=key)

    def _mean(self, key: str, values: Tensor) -> MeanMetric:
        """Return the mean under a name, with further values; Lightning resets it after every validation."""
        if key not in self._means:
            self._means[key] = MeanMetric(nan_strategy="disable").to(self.device)
        self._means[key].update(values)
        return self._means[key]
