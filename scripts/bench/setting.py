"""Size of the benchmark: small on a CPU, larger on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from scripts.bench.models import BenchModel


@dataclass(frozen=True)
class Setting:
    """Parameters of every row.

    Args:
        bench_models: `normal` and `robust`.
        device: of networks and images.
        images: number of images of an attack.
        few: number of images in rows that take minutes.
        batch: size of a training step.
        turns: number of runs of every side.
        queries: of Square.
        targets: target classes of AutoAttack's two targeted attacks.
    """

    bench_models: Mapping[str, BenchModel]
    device: torch.device
    images: int
    few: int
    batch: int
    turns: int
    queries: int = 5000
    targets: int = 9
