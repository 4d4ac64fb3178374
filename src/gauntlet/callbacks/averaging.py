"""Weight averaging: what is validated, saved and evaluated is a moving average of the weights along training."""

from __future__ import annotations

from functools import partial

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def followed(average: Tensor, current: Tensor, count: Tensor | int, decay: float) -> Tensor:
    """decay · average + (1 − decay) · current; after n steps the decay is (1 + n) / (10 + n) if that is less.

    So an average of few steps holds the latest of them, and the first weights, which nobody trained, are soon gone.
    What is counted and not measured (BatchNorm's number of batches) is the current.

    Args:
        average: so far.
        current: of the step.
        count: n ≥ 1, how many steps are in the average.
        decay: in the long run.
    """
    if not average.is_floating_point():
        return current
    steps = torch.as_tensor(count, device=average.device).to(torch.float64)
    kept = ((1 + steps) / (10 + steps)).clamp(max=decay).to(average.dtype)
    return kept * average + (1 - kept) * current


class ExponentialAveraging(WeightAveraging):
    """Lightning's callback with an exponential moving average after every step, first weights soon forgotten.

    The decay is that of Gowal et al., "Uncovering the limits of adversarial training", 2020; how it begins is ours.
    Attacks and steps go on with the trained weights; validation, `final.safetensors` and every evaluation have the
    average. Its BatchNorm statistics are the same average of the running statistics, and not measured anew with the
    averaged weights. Average and counters are in the checkpoint, so that a run that was stopped goes on to the same.

    Args:
        decay: of the average, a step; 0.995 there.
    """

    def __init__(self, decay: float = 0.995) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"averaging with decay {decay}: expected at least 0 and below 1, such as 0.995")
        super().__init__(avg_fn=partial(followed, decay=decay))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the average where training runs: the module itself is moved there only later."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand over the average, also if the last checkpoint was that of the last step: then no training ends."""
        if stage == "fit":
            self.on_train_end(trainer, pl_module)
