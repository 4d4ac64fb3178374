"""Progress of training: a bar on a terminal, a line per epoch anywhere else."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.utilities import rank_zero_only


def progress() -> ProgressBar:
    """Return the progress bar for standard output."""
    return RichProgressBar(leave=False) if sys.stdout.isatty() else EpochLines()


class EpochLines(ProgressBar):
    """Prints one line per epoch with its metrics."""

    _start: float | None = None

    def enable(self) -> None:
        """Do nothing: only rank zero prints lines."""

    def disable(self) -> None:
        """As `enable`."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Store the time of the first batch of this process, which after a resume may be inside an epoch."""
        self._start = self._start or time.monotonic()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        metrics = self.get_metrics(trainer, pl_module)
        values = "  ".join(f"{name} {value:.3f}" for name, value in sorted(metrics.items()) if isinstance(value, float))
        now = time.monotonic()
        seconds = now - (self._start or now)
        self._start = None
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {values}  {seconds:.1f} s", flush=True)
