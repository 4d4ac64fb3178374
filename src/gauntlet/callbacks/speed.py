"""Speed of training in steps and images."""

from __future__ import annotations

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Speed(Callback):
    """Logs `speed/step_seconds` and `speed/images_per_second` of all processes together.

    Measured from the end of one step to the end of the next, including data and attack. A GPU works asynchronously, so
    single steps are inexact; the mean over an epoch is right.
    """

    _last: float | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the time since the previous step; the first step of an epoch or after a resume has none."""
        now = time.perf_counter()
        if self._last is not None:
            seconds = now - self._last
            images = len(batch.labels) * trainer.world_size
            pl_module.log("speed/step_seconds", seconds, batch_size=len(batch.labels))
            pl_module.log("speed/images_per_second", images / seconds, batch_size=len(batch.labels))
        self._last = now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset: the time between epochs, with validation, is not part of a step."""
        self._last = None
