"""Learning-rate schedules, stepped every step."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_and_drops(
    optimizer: Optimizer, steps_per_epoch: int, warmup_epochs: float, drop_epochs: Sequence[float], factor: float = 0.1
) -> LambdaLR:
    """Warm up linearly to the optimizer's rate, then multiply it by `factor` at each drop, as in the PAT paper.

    Args:
        optimizer: has the base rate.
        steps_per_epoch: optimizer steps.
        warmup_epochs: step `i` of the warm-up has (i + 1) / (warmup_epochs · steps_per_epoch) of the rate.
        drop_epochs: epochs before whose first step the rate is multiplied.
        factor: of each drop.

    Raises:
        ValueError: a warm-up or a drop lies before the start or has no end, or the rate would not be finite.
    """
    if not 0 <= warmup_epochs < inf:
        raise ValueError(f"warmup_epochs is {warmup_epochs}: expected a number of epochs, at least 0")
    if not all(0 <= epoch < inf for epoch in drop_epochs):
        raise ValueError(f"drop_epochs is {list(drop_epochs)}: expected numbers of epochs, at least 0")
    if not 0 <= factor < inf:
        raise ValueError(f"factor is {factor}: expected a number, at least 0")

    def share(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1.0, warmup_epochs * steps_per_epoch))
        return warm * factor ** sum(step >= epoch * steps_per_epoch for epoch in drop_epochs)

    return LambdaLR(optimizer, share)
