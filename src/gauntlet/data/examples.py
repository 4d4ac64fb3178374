"""Examples with stable ids, and their order in training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gauntlet.noise import Noise, mix


class Batch(NamedTuple):
    """N examples."""

    images: Tensor
    """`[N, C, H, W]` float in [0, 1]."""
    labels: Tensor
    """`[N]` int64, the true classes; of another task than classification its targets, `[N, …]`."""
    ids: Tensor
    """`[N]` int64; an example has the same id in every split, run and machine; −1 if unknown."""
    codes: Tensor | None = None
    """`[N, …]` codes from which a generator makes the images, if the dataset or an inversion provides them."""

    def rows(self, keep: slice | Tensor | Sequence[int]) -> Batch:
        """Return some of the examples; `keep` is a slice, a mask or indices over N."""
        return self.mapped(lambda part: part[keep])

    def to(self, device: torch.device) -> Batch:
        """Return the examples on another device."""
        return self.mapped(lambda part: part.to(device))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to every tensor."""
        codes = None if self.codes is None else change(self.codes)
        return Batch(change(self.images), change(self.labels), change(self.ids), codes)


def unidentified(images: Tensor, labels: Tensor) -> Batch:
    """Make a batch from images and labels alone: the ids are −1, and there are no codes."""
    return Batch(images, labels, torch.full(images.shape[:1], -1, dtype=torch.int64, device=images.device))


class Split(Protocol):
    """The interface of examples, in memory or on disk, for training and the grid."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """`[C, H, W]` of every image."""

    @property
    def labels(self) -> Tensor:
        """`[N]` int64, or the task's targets `[N, …]`."""

    @property
    def ids(self) -> Tensor:
        """`[N]` int64."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, index: int | slice | Tensor) -> Batch:
        """Return some of the examples for evaluation; an integer gives a batch of one."""

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a batch, for a DataLoader."""

    def draw(self, rows: Tensor, noise: Noise) -> Batch:
        """Return some of the examples for training; the noise decides random views."""

    def to(self, device: torch.device) -> Split:
        """Return the examples, on the device if they are held in memory."""

    def digest(self) -> str:
        """Return the SHA-256 of the content."""


_CHUNK = 10_000  # examples copied at once for a digest, to bound the memory


@dataclass(frozen=True)
class Examples(Dataset[Batch]):
    """A split held in memory as bytes, on any device; a batch is indexed at once.

    Args:
        images: `[N, C, H, W]` uint8.
        labels: `[N]` int64, or the task's targets `[N, …]`.
        ids: `[N]` int64.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """`[C, H, W]`."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __getitem__(self, index: int | slice | Tensor) -> Batch:
        """Return some of the examples, images in [0, 1]; an integer gives a batch of one."""
        rows = slice(index, index + 1) if isinstance(index, int) else index
        return Batch(unit(self.images[rows]), self.labels[rows], self.ids[rows])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a batch, for a DataLoader."""
        return self[torch.as_tensor(indices)]

    def draw(self, rows: Tensor, noise: Noise) -> Batch:
        """Return the unchanged images; the noise plays no part."""
        return self[rows]

    def to(self, device: torch.device) -> Examples:
        """Return the examples on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), ids=self.ids.to(device))

    def digest(self) -> str:
        """Return the SHA-256 of every pixel, label and id."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels, self.ids):
            digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
            for part in tensor.split(_CHUNK):
                digest.update(part.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def unit(pixels: Tensor) -> Tensor:
    """Convert bytes to float32 in [0, 1]."""
    largest = torch.full((), 255.0, device=pixels.device)  # a tensor: CUDA turns division by a number into × 1/255
    return pixels.float() / largest


def held_out(ids: Tensor, share: float) -> Tensor:
    """Return the `[N]` mask of the examples held out for validation: about `share`, at least one, and not all.

    It is a function of each id, so a subset holds out the same examples as the whole set.

    Raises:
        ValueError: the share is not between 0 and 1, or no example is left for training.
    """
    if not 0 < share < 1:
        raise ValueError(f"validation {share}: expected the share of training images to hold out, such as 0.02")
    draws = Noise(mix(_HELD_OUT, ids)).uniform([len(ids)])
    held = draws < share
    if len(ids) < 2:
        raise ValueError(f"{len(ids)} training images: too few to hold a share of {share} out for validation")
    if not held.any():
        held[draws.argmin()] = True
    if held.all():
        held[draws.argmax()] = False
    return held


_HELD_OUT = 0x76616C  # separates these random numbers from others made from ids


def permutation(count: int, *seed: Tensor | int) -> Tensor:
    """Return the random order of `count` rows, `[count]` int64, that belongs to a seed of several integers."""
    return mix(*seed, torch.arange(count)).argsort()


class Step(NamedTuple):
    """The rows of one process in one step."""

    epoch: int
    rows: list[int]


class EpochBatches(Sampler[Step]):
    """Batches in an order that is a function of (seed, epoch), without those that were already trained on.

    Lightning's own resume inside an epoch repeats its first batches and never sees the rest; here the number of
    optimizer steps done decides where to resume.

    Args:
        examples: their number.
        batch_size: per process.
        seed: of the run.
        steps_done: returns the optimizer steps of the run so far; called at the beginning of every epoch.
        rank: of this process.
        world: number of processes that share a step.
    """

    def __init__(
        self, examples: int, batch_size: int, seed: int, steps_done: Callable[[], int], rank: int = 0, world: int = 1
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self.steps_done = steps_done
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        """Return the number of steps of a whole epoch.

        A last batch with fewer than two examples per process is left out, because batch norm cannot be trained on one.
        It is kept if the batch size is 1, or if it is the only batch and has an example for every process. The order
        changes every epoch, so other examples are left out each time.
        """
        whole, rest = divmod(self.examples, self.batch_size * self.world)
        return whole + self._is_kept(rest, whole)

    def _is_kept(self, last: int, whole: int) -> bool:
        """Return whether a last batch of `last` examples after `whole` complete batches is a step."""
        least = 1 if self.batch_size == 1 or not whole else 2
        return last >= least * self.world

    def smallest(self) -> int:
        """Return the smallest number of examples of a process in a step."""
        return min(len(rows) for rows in self.steps(0)[-1].tensor_split(self.world))

    def __iter__(self) -> Iterator[Step]:
        epoch, done = divmod(self.steps_done(), len(self))
        for rows in self.steps(epoch)[done:]:
            yield Step(epoch, rows.tensor_split(self.world)[self.rank].tolist())

    def steps(self, epoch: int) -> Sequence[Tensor]:
        """Return the rows of every step of an epoch, of all processes together."""
        return self.order(epoch).split(self.batch_size * self.world)[: len(self)]

    def order(self, epoch: int) -> Tensor:
        """Return the order of all examples in an epoch, `[examples]`."""
        return permutation(self.examples, self.seed, epoch)
