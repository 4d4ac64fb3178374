"""Weight averaging: a moving average of the weights is validated, saved and evaluated."""

from __future__ import annotations

from functools import partial

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def moving_average(average: Tensor, current: Tensor, count: Tensor | int, decay: float) -> Tensor:
    """Return d · average + (1 − d) · current, with d = min(decay, (1 + n) / (10 + n)) after n steps.

    The smaller d of the first steps removes the untrained initial weights from the average. Integers (BatchNorm's
    number of batches) are not averaged: the current value is returned.

    Args:
        average: so far.
        current: of the step.
        count: n ≥ 1, number of steps in the average.
        decay: limit of d.
    """
    if not average.is_floating_point():
        return current
    steps = torch.as_tensor(count, device=average.device).to(torch.float64)
    kept = ((1 + steps) / (10 + steps)).clamp(max=decay).to(average.dtype)
    return kept * average + (1 - kept) * current


class ExponentialAveraging(WeightAveraging):
    """Lightning's `WeightAveraging` with an exponential moving average, updated after every step.

    The decay is that of Gowal et al., "Uncovering the limits of adversarial training", 2020; its smaller values at the
    beginning (`moving_average`) are ours. Training steps and their attacks use the trained weights; validation,
    `final.safetensors` and every evaluation use the average. BatchNorm's running statistics are averaged in the same
    way, not measured again with the averaged weights. Average and counters are in the checkpoint, so a resumed run
    ends with the same weights.

    Args:
        decay: of the average per step; 0.995 in the paper.
    """

    def __init__(self, decay: float = 0.995) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"averaging with decay {decay}: expected at least 0 and below 1, such as 0.995")
        super().__init__(avg_fn=partial(moving_average, decay=decay))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the average on the training device; the module itself is moved there only later."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the average into the module, also on resuming after the last step, without `on_train_end`."""
        if stage == "fit":
            self.on_train_end(trainer, pl_module)
