"""How fast training goes."""

from __future__ import annotations

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Speed(Callback):
    """Logs `speed/step_seconds` and `speed/images_per_second` of all processes together.

    Measured from the end of one step to the end of the next, data and attack included; on a GPU, which works behind
    Python's back, steps even out over an epoch.
    """

    _last: float | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The first step of an epoch, or after a resume, has no step before it to measure from."""
        now = time.perf_counter()
        if self._last is not None:
            seconds, images = now - self._last, len(batch.labels) * trainer.world_size
            pl_module.log("speed/step_seconds", seconds, batch_size=len(batch.labels))
            pl_module.log("speed/images_per_second", images / seconds, batch_size=len(batch.labels))
        self._last = now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What lies between epochs is no step."""
        self._last = None
