"""Keep one checkpoint to resume from, complete at every moment."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from gauntlet.callbacks.stopping import StopSignals
from gauntlet.loggers import MetricsCSV

_SAVE = 1
_ENDED = "training_ended"  # key of the checkpoint


class KeepResumable(Callback):
    """Writes `checkpoints/last.ckpt` after every epoch, every `every_seconds` within an epoch, and on a stop signal.

    Training is a function of the step, so a resumed run ends with the same weights wherever it was killed. The file is
    written completely and renamed, only between two steps, when counters and weights agree.

    Args:
        every_seconds: seconds of work that may be lost.

    Raises:
        ValueError: they are negative.
    """

    def __init__(self, every_seconds: float = 60.0) -> None:
        if not every_seconds >= 0:
            raise ValueError(f"a checkpoint every {every_seconds} seconds: expected at least 0")
        self.every_seconds = every_seconds
        self._saved = time.monotonic()
        self._signals = StopSignals()

    @property
    def stop_requested(self) -> bool:
        """Whether a stop signal has come. Later errors may be its effect: W&B's own process gets it, too."""
        return self._signals.received

    @staticmethod
    def file(folder: str | Path) -> Path:
        """Return the path of the checkpoint in a run folder."""
        return Path(folder) / "checkpoints" / "last.ckpt"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move to the end of the callbacks, so that the checkpoint includes what others do after a step."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        others = [other for other in callbacks if other is not self and not isinstance(other, _EpochSaves)]
        trainer.callbacks = [*others, self, _EpochSaves(self)]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers, after Lightning has set its own."""
        self._signals.listen()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the signal handlers: from now on a stop loses nothing."""
        self._signals.restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers."""
        self._signals.restore()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store whether another callback, such as `EarlyStopping`, has ended training."""
        checkpoint[_ENDED] = bool(trainer.should_stop)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep training ended that had been ended."""
        trainer.should_stop = checkpoint.get(_ENDED, False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within an epoch if it is due; after its last batch `epoch_ended` saves."""
        if batch_idx + 1 >= trainer.num_training_batches:
            return
        due = time.monotonic() - self._saved >= self.every_seconds
        if agreed := self._agreed(trainer, self._signals.requested or due):
            self._save(trainer)
            self._obey(trainer, agreed)

    def epoch_ended(self, trainer: Trainer) -> None:
        """Save after validation and after all other callbacks."""
        self._save(trainer)
        self._obey(trainer, self._agreed(trainer, self._signals.requested or 0))

    def _obey(self, trainer: Trainer, agreed: int) -> None:
        if agreed > _SAVE:
            self._signals.obey(signal.Signals(agreed), trainer.is_global_zero)

    @staticmethod
    def _agreed(trainer: Trainer, request: int) -> int:
        """Return the largest request of all processes, so that they save and stop at the same step.

        A request is 0, 1 to save, or the number of the stop signal.
        """
        if trainer.world_size == 1:
            return int(request)
        requests = torch.tensor(int(request), device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(requests, reduce_op="max"))

    def _save(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):  # a resumed run does not log the steps before the checkpoint again
                logger.flush()
        file = self.file(trainer.default_root_dir)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(file)
        self._saved = time.monotonic()


class _EpochSaves(Checkpoint):
    """Saves after an epoch: Lightning runs `Checkpoint` callbacks after all others, early stopping included."""

    def __init__(self, keeper: KeepResumable) -> None:
        self.keeper = keeper

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, after early stopping has decided."""
        self.keeper.epoch_ended(trainer)
