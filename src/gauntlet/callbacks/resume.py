"""One checkpoint to go on from, complete at every moment."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from gauntlet.loggers import MetricsCSV


class KeepResumable(Callback):
    """Writes `checkpoints/last.ckpt` after every epoch, and within long epochs every so often.

    Training is a function of the step, so wherever it is killed it goes on from here to the very same weights. A file
    is written whole and renamed, and only between two steps, when counters and weights agree.

    Args:
        every_seconds: how much work may be lost.
    """

    def __init__(self, every_seconds: float = 60.0) -> None:
        self.every_seconds = every_seconds
        self._saved = time.monotonic()

    @staticmethod
    def file(folder: str | Path) -> Path:
        """Where the checkpoint of a run folder is."""
        return Path(folder) / "checkpoints" / "last.ckpt"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come last, wherever the config put it: what other callbacks do after a step belongs to the step."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = [*(other for other in callbacks if other is not self), self]  # type: ignore[attr-defined]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Within an epoch; its last batch belongs to the epoch's own save."""
        last = batch_idx + 1 >= trainer.num_training_batches
        if not last and trainer.strategy.broadcast(time.monotonic() - self._saved >= self.every_seconds):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After validation."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):  # what was logged before this point is never logged again
                logger.flush()
        file = self.file(trainer.default_root_dir)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(file)
        self._saved = time.monotonic()
