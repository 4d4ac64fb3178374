"""How far training is: a bar on a terminal, a line per epoch anywhere else."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.utilities import rank_zero_only


def progress() -> ProgressBar:
    """The one that suits standard output."""
    return RichProgressBar(leave=False) if sys.stdout.isatty() else EpochLines()


class EpochLines(ProgressBar):
    """One line per epoch with the metrics that matter."""

    _start: float | None = None

    def enable(self) -> None:
        """Lightning asks; the lines are rank zero's alone anyway."""

    def disable(self) -> None:
        """As `enable`."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the time of the first batch, which after a resume is not the epoch's first."""
        self._start = self._start or time.monotonic()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how it went."""
        metrics = self.get_metrics(trainer, pl_module)
        values = "  ".join(f"{name} {value:.3f}" for name, value in sorted(metrics.items()) if isinstance(value, float))
        seconds, self._start = time.monotonic() - (self._start or time.monotonic()), None
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {values}  {seconds:.1f} s", flush=True)
