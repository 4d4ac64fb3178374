"""Examples with stable ids, and the order in which training sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gauntlet.noise import mix


class Batch(NamedTuple):
    """N examples."""

    images: Tensor
    """`[N, C, H, W]` float in [0, 1]."""
    labels: Tensor
    """`[N]` int64."""
    ids: Tensor
    """`[N]` int64: the same example has the same id in every split, run and machine."""


@dataclass(frozen=True)
class Examples(Dataset[Batch]):
    """A split held in memory as bytes; a batch is fetched in one piece.

    Args:
        images: `[N, C, H, W]` uint8.
        labels: `[N]` int64.
        ids: `[N]` int64.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | slice | Tensor) -> Batch:
        """Some of the examples, their images in [0, 1]; an integer gives a batch of one."""
        rows = slice(index, index + 1) if isinstance(index, int) else index
        return Batch(self.images[rows].float() / 255, self.labels[rows], self.ids[rows])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """What a DataLoader calls for a whole batch."""
        return self[torch.as_tensor(indices)]

    def digest(self) -> str:
        """SHA-256 of every pixel, label and id."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels, self.ids):
            digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


class EpochBatches(Sampler[list[int]]):
    """Batches in an order that is a function of (seed, epoch), beginning after those that were already trained on.

    Lightning's own resume in the middle of an epoch replays its first batches and never sees the rest; here the
    number of optimizer steps done says where to go on.

    Args:
        examples: how many there are.
        batch_size: per process.
        seed: of the run.
        steps_done: optimizer steps of the run so far, asked at the beginning of every epoch.
        rank: this process.
        world: how many processes share every step.
    """

    def __init__(
        self, examples: int, batch_size: int, seed: int, steps_done: Callable[[], int], rank: int = 0, world: int = 1
    ) -> None:
        self.examples, self.batch_size, self.seed, self.steps_done = examples, batch_size, seed, steps_done
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        """Steps of a whole epoch. A last batch too small to give every process an example is left out."""
        whole, rest = divmod(self.examples, self.batch_size * self.world)
        return whole + (rest >= self.world)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, done = divmod(self.steps_done(), len(self))
        order = mix(self.seed, epoch, torch.arange(self.examples)).argsort()
        for step in order.split(self.batch_size * self.world)[done : len(self)]:
            yield step.tensor_split(self.world)[self.rank].tolist()
