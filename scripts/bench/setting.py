"""How much is run: on a laptop's CPU little, on a GPU more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from scripts.bench.models import BenchModel


@dataclass(frozen=True)
class Setting:
    """What every row is given.

    Args:
        bench_models: `normal` and `robust`.
        device: where everything is.
        images: of an attack.
        few: images of what takes minutes.
        batch: of a training step.
        turns: how often every side runs.
        queries: of Square.
        targets: classes that AutoAttack's two targeted attacks aim at.
    """

    bench_models: Mapping[str, BenchModel]
    device: torch.device
    images: int
    few: int
    batch: int
    turns: int
    queries: int = 5000
    targets: int = 9
