"""A dataset whose training batches hold a fixed share of examples from a second source.

Carmon et al., "Unlabeled data improves adversarial robustness", NeurIPS 2019 (half of every batch); Gowal et al.,
"Improving robustness using generated data", NeurIPS 2021 (more than half). Validation and test stay the dataset's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gauntlet.data.examples import Batch, EpochBatches, Split
from gauntlet.data.module import ImageData, Splits
from gauntlet.noise import Noise, mix
from gauntlet.task import Task

_OTHERS = 0x6F7468  # keeps the order of the second source apart from that of the first


class Mixed(ImageData):
    """A dataset and a second source for its training batches.

    An epoch shows every training example of the dataset once, but for a last batch that is too small (`EpochBatches`),
    and is as much longer as the batches leave it room; the second source goes on where the epoch before it stopped, and
    begins anew in another order when all of it was seen.

    Args:
        data: the dataset; batch size, seed and augmentation are its own.
        others: the second source, images of the same shape.
        share: of each training batch that is the second source's, above 0 and below 1. It is the share of the batch of
            all processes together; one process's part of it differs by one example at most.
        workers: processes that read, as in `ImageData`, if the dataset does not say more.
    """

    def __init__(self, data: ImageData, others: Split, share: float, workers: int = 0) -> None:
        self.data, self.others, self.share = data, others, share
        super().__init__(data.batch_size, data.seed, data.augmentation, max(workers, data.workers))
        if others.shape != data.splits.train.shape:
            raise ValueError(f"images {list(others.shape)}: expected the dataset's {list(data.splits.train.shape)}")
        if data.splits.train.ids.amin() < 0:
            raise ValueError("the dataset has ids below 0: those are the second source's")
        self.batches(lambda: 0)  # refuses a share that is none

    @property
    def task(self) -> Task:
        """The dataset's own."""
        return self.data.task

    def load(self) -> Splits:
        """The dataset's own."""
        return self.data.splits

    @cached_property
    def fingerprint(self) -> str:
        """The dataset's own: what is evaluated is what it would be without a second source."""
        return self.data.fingerprint

    @cached_property
    def training_fingerprint(self) -> str:
        """SHA-256 of the dataset's fingerprint and the second source's content."""
        return hashlib.sha256(f"{self.data.fingerprint}{self.others.digest()}".encode()).hexdigest()

    @cached_property
    def training_split(self) -> Split:
        """Both sources, one after the other."""
        return Joined(self.splits.train, self.others)

    def batches(self, steps_done: Callable[[], int], rank: int = 0, world: int = 1) -> EpochBatches:
        """As in `ImageData`."""
        counts = len(self.splits.train), len(self.others)
        return MixedBatches(*counts, self.share, self.batch_size, self.seed, steps_done, rank, world)


@dataclass(frozen=True)
class Joined(Dataset[Batch]):
    """Two splits as one: the rows of the first, then those of the second, whose ids become −1 − id.

    Ids are at least 0 everywhere else, so no two examples share one.

    Args:
        first: of any kind.
        second: of any kind, images of the same shape.
    """

    first: Split
    second: Split

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def shape(self) -> tuple[int, int, int]:
        """`[C, H, W]`."""
        return self.first.shape

    @cached_property
    def labels(self) -> Tensor:
        """`[N]` int64, or the task's targets `[N, …]`."""
        return torch.cat((self.first.labels, self.second.labels))

    @cached_property
    def ids(self) -> Tensor:
        """`[N]` int64."""
        return torch.cat((self.first.ids, ~self.second.ids))

    def __getitem__(self, index: int | slice | Tensor) -> Batch:
        """Some of the examples as they are evaluated; an integer gives a batch of one."""
        rows = torch.arange(len(self))[slice(index, index + 1) if isinstance(index, int) else index]
        return self._gathered(rows, lambda split, rows, _: split[rows])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """What a DataLoader calls for a whole batch."""
        return self[torch.as_tensor(indices)]

    def draw(self, rows: Tensor, noise: Noise) -> Batch:
        """Some of the examples as training looks at them."""
        return self._gathered(rows, lambda split, some, which: split.draw(some, noise.rows(which)))

    def to(self, device: torch.device) -> Joined:
        """Both on the device; if one stays on disk, and is read into main memory, the other stays there too."""
        moved = Joined(self.first.to(device), self.second.to(device))
        return moved if moved.first.ids.device == moved.second.ids.device else self

    def digest(self) -> str:
        """SHA-256 of the content of both."""
        return hashlib.sha256(f"{self.first.digest()}{self.second.digest()}".encode()).hexdigest()

    def _gathered(self, rows: Tensor, fetch: Callable[[Split, Tensor, Tensor], Batch]) -> Batch:
        """The rows of either split, fetched together, in the order asked for."""
        places = [part.nonzero()[:, 0] for part in (rows < len(self.first), rows >= len(self.first))]
        first = fetch(self.first, rows[places[0]], places[0])
        second = fetch(self.second, rows[places[1]] - len(self.first), places[1])
        back = torch.cat(places).argsort()
        back = back.to(first.labels.device)
        images, labels = torch.cat((first.images, second.images)), torch.cat((first.labels, second.labels))
        return Batch(images, labels, torch.cat((first.ids, ~second.ids))).rows(back)


class MixedBatches(EpochBatches):
    """Batches of two sources; rows from `examples` on are the second's.

    The places of the second source are spread evenly over a batch, and are the same in every batch.

    Args:
        examples: of the first source.
        others: of the second.
        share: of a batch that is the second source's.
        batch_size, seed, steps_done, rank, world: as in `EpochBatches`.
    """

    def __init__(
        self,
        examples: int,
        others: int,
        share: float,
        batch_size: int,
        seed: int,
        steps_done: Callable[[], int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(examples, batch_size, seed, steps_done, rank, world)
        if not 0 < share < 1:
            raise ValueError(
                f"share {share}: expected the share of a batch that is from the second source, such as 0.3"
            )
        reached = (torch.arange(batch_size * world + 1, dtype=torch.float64) * share + 0.5).floor()
        self._second = reached.diff() > 0
        """Which places of a batch of all processes are the second source's, booleans."""
        self.others, self._own = others, int((~self._second).sum())
        if not others:
            raise ValueError("a second source of no examples: expected at least one")
        if not 0 < self._own < len(self._second):
            raise ValueError(
                f"share {share} of batches of {len(self._second)}: expected a whole example of either source"
            )

    def __len__(self) -> int:
        """Steps of a whole epoch; a last batch that is too small is left out, as in `EpochBatches`."""
        whole, rest = divmod(self.examples, self._own)
        return whole + (rest > 0 and self._is_kept(self._room_for(rest), whole))

    def steps(self, epoch: int) -> Sequence[Tensor]:
        """The rows of every step of an epoch, those of all processes together."""
        order = mix(self.seed, epoch, torch.arange(self.examples)).argsort().split(self._own)[: len(self)]
        places = [self._second[: self._room_for(len(own))] for own in order]
        counts = [int(second.sum()) for second in places]
        others = self._others(epoch * sum(counts), sum(counts)).split(counts)
        return [_filled(*parts) for parts in zip(places, order, others, strict=True)]

    def _room_for(self, own: int) -> int:
        """How long a batch of so many examples of the first source is."""
        return len(self._second) if own == self._own else int((~self._second).nonzero()[own - 1]) + 1

    def _others(self, start: int, count: int) -> Tensor:
        """Rows of the second source from a place on in the endless sequence of its permutations."""
        if not count:  # an epoch of a few examples
            return torch.zeros(0, dtype=torch.int64)
        turns = range(start // self.others, (start + count - 1) // self.others + 1)
        rows = torch.arange(self.others)
        order = torch.cat([mix(_OTHERS, self.seed, turn, rows).argsort() for turn in turns])
        return self.examples + order[start - turns.start * self.others :][:count]


def _filled(second: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """A batch with the one source's rows in its places and the other's in the rest."""
    rows = torch.empty(len(second), dtype=torch.int64)
    rows[~second], rows[second] = own, others
    return rows
