"""One checkpoint to go on from, complete at every moment."""

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
    """Writes `checkpoints/last.ckpt` after every epoch, within long epochs every so often, and when told to stop.

    Training is a function of the step, so wherever it is killed it goes on from here to the very same weights. A file
    is written whole and renamed, and only between two steps, when counters and weights agree.

    Args:
        every_seconds: how much work may be lost.
    """

    def __init__(self, every_seconds: float = 60.0) -> None:
        self.every_seconds = every_seconds
        self._saved = time.monotonic()
        self._signals = StopSignals()

    @property
    def told_to_stop(self) -> bool:
        """Whether a signal has come. What fails after that may fail because others got it too: W&B's own process."""
        return self._signals.ever

    @staticmethod
    def file(folder: str | Path) -> Path:
        """Where the checkpoint of a run folder is."""
        return Path(folder) / "checkpoints" / "last.ckpt"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come last, wherever the config put it: what other callbacks do after a step belongs to the step."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        others = [other for other in callbacks if other is not self and not isinstance(other, _EpochSaves)]
        trainer.callbacks = [*others, self, _EpochSaves(self)]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After Lightning has set its own handlers."""
        self._signals.listen()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What comes now can be stopped anywhere."""
        self._signals.forget()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As `on_train_end`."""
        self._signals.forget()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep that another callback has ended training, such as `EarlyStopping`."""
        checkpoint[_ENDED] = bool(trainer.should_stop)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What had ended does not go on."""
        trainer.should_stop = checkpoint.get(_ENDED, False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Within an epoch; its last batch belongs to the epoch's own save."""
        if batch_idx + 1 >= trainer.num_training_batches:
            return
        if agreed := self._agreed(trainer, self._signals.asked or time.monotonic() - self._saved >= self.every_seconds):
            self._save(trainer)
            self._obey(trainer, agreed)

    def epoch_ended(self, trainer: Trainer) -> None:
        """After validation, and after all other callbacks."""
        self._save(trainer)
        self._obey(trainer, self._agreed(trainer, self._signals.asked or 0))

    def _obey(self, trainer: Trainer, agreed: int) -> None:
        if agreed > _SAVE:
            self._signals.obey(signal.Signals(agreed), trainer.is_global_zero)

    @staticmethod
    def _agreed(trainer: Trainer, wish: int) -> int:
        """The largest wish of all processes, so that they save and stop at the same step.

        A wish is 0, 1 to save, or the number of the signal that asks to stop.
        """
        if trainer.world_size == 1:
            return int(wish)
        wishes = torch.tensor(int(wish), device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(wishes, reduce_op="max"))

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


class _EpochSaves(Checkpoint):
    """The save after an epoch: of all callbacks Lightning runs checkpoints and early stopping last there."""

    def __init__(self, keeper: KeepResumable) -> None:
        self.keeper = keeper

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What stops early has decided."""
        self.keeper.epoch_ended(trainer)
