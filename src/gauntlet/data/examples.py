"""Examples with stable ids, and the order in which training sees them."""

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
    """`[N]` int64: the same example has the same id in every split, run and machine; −1 where it is unknown."""
    codes: Tensor | None = None
    """`[N, …]`: what a generator makes the images from, where the dataset or an inversion knows it."""

    def rows(self, keep: slice | Tensor | Sequence[int]) -> Batch:
        """Some of the examples; `keep` is a slice, a mask or indices over N."""
        return self.mapped(lambda part: part[keep])

    def to(self, device: torch.device) -> Batch:
        """The same examples on another device."""
        return self.mapped(lambda part: part.to(device))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same change to every tensor."""
        codes = None if self.codes is None else change(self.codes)
        return Batch(change(self.images), change(self.labels), change(self.ids), codes)


def unidentified(images: Tensor, labels: Tensor) -> Batch:
    """A batch of examples of which only images and labels are known: the ids are −1, and there are no codes."""
    return Batch(images, labels, torch.full(images.shape[:1], -1, dtype=torch.int64, device=images.device))


class Split(Protocol):
    """Examples wherever they lie: all that training and the grid ask of them."""

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
        """Some of the examples as they are evaluated; an integer gives a batch of one."""

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """What a DataLoader calls for a whole batch."""

    def draw(self, rows: Tensor, noise: Noise) -> Batch:
        """Some of the examples as training looks at them; where that is left to chance, the noise decides."""

    def to(self, device: torch.device) -> Split:
        """The same examples, on the device if they are held in memory."""

    def digest(self) -> str:
        """SHA-256 of the content."""


_AT_ONCE = 10_000  # examples copied for a digest: of a million images there is never a second million


@dataclass(frozen=True)
class Examples(Dataset[Batch]):
    """A split held in memory as bytes, on any device; a batch is fetched in one piece.

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
        """Some of the examples, their images in [0, 1]; an integer gives a batch of one."""
        rows = slice(index, index + 1) if isinstance(index, int) else index
        return Batch(unit(self.images[rows]), self.labels[rows], self.ids[rows])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """What a DataLoader calls for a whole batch."""
        return self[torch.as_tensor(indices)]

    def draw(self, rows: Tensor, noise: Noise) -> Batch:
        """The images as they are: nothing is left to chance."""
        return self[rows]

    def to(self, device: torch.device) -> Examples:
        """The same examples on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), ids=self.ids.to(device))

    def digest(self) -> str:
        """SHA-256 of every pixel, label and id."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels, self.ids):
            digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
            for part in tensor.split(_AT_ONCE):
                digest.update(part.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def unit(pixels: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]."""
    whole = torch.full((), 255.0, device=pixels.device)  # a tensor: CUDA turns division by a number into × 1/255
    return pixels.float() / whole


def held_out(ids: Tensor, share: float) -> Tensor:
    """`[N]` mask of the examples that validation keeps from training: about `share` of them, at least one, and not all.

    A function of each id alone, so that a subset holds out what the whole set holds out.

    Raises:
        ValueError: the share is not between 0 and 1, or nothing would be left to train on.
    """
    if not 0 < share < 1:
        raise ValueError(f"validation {share}: expected the share of training images to hold out, such as 0.02")
    place = Noise(mix(_HELD_OUT, ids)).uniform([len(ids)])
    held = place < share
    if len(ids) < 2:
        raise ValueError(f"{len(ids)} training images: too few to hold a share of {share} out for validation")
    if not held.any():
        held[place.argmin()] = True
    if held.all():
        held[place.argmax()] = False
    return held


_HELD_OUT = 0x76616C  # keeps these numbers apart from all others made from ids


class Step(NamedTuple):
    """What one process does in one step."""

    epoch: int
    rows: list[int]


class EpochBatches(Sampler[Step]):
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
        """Steps of a whole epoch.

        A last batch that is too small to give every process two examples is left out: batch norm cannot be trained on
        one. It stays where all batches are of one example a process, and where it is the only one and gives every
        process one. The order is another in every epoch, so that other examples are left out.
        """
        whole, rest = divmod(self.examples, self.batch_size * self.world)
        return whole + self._is_kept(rest, whole)

    def _is_kept(self, last: int, whole: int) -> bool:
        """Whether a last batch of so many examples is a step, after so many whole ones."""
        least = 1 if self.batch_size == 1 or not whole else 2
        return last >= least * self.world

    def smallest(self) -> int:
        """The least number of examples that a process has in a step."""
        return min(len(rows) for rows in self.steps(0)[-1].tensor_split(self.world))

    def __iter__(self) -> Iterator[Step]:
        epoch, done = divmod(self.steps_done(), len(self))
        for rows in self.steps(epoch)[done:]:
            yield Step(epoch, rows.tensor_split(self.world)[self.rank].tolist())

    def steps(self, epoch: int) -> Sequence[Tensor]:
        """The rows of every step of an epoch, those of all processes together."""
        order = mix(self.seed, epoch, torch.arange(self.examples)).argsort()
        return order.split(self.batch_size * self.world)[: len(self)]
