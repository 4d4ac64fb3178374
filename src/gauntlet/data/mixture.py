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

from gauntlet.data.examples import Batch, EpochBatches, Split, permutation
from gauntlet.data.module import ImageData, Splits
from gauntlet.noise import Noise
from gauntlet.task import Task

_OTHERS = 0x6F7468  # separates the order of the second source from that of the first


class Mixed(ImageData):
    """A dataset and a second source for its training batches.

    An epoch has every training example of the dataset once, except for a last batch that is too small
    (`EpochBatches`), and more steps than without the second source. The second source continues where the previous
    epoch ended, and starts again in another order after its last example.

    Args:
        data: the dataset; batch size, seed and augmentation are its own.
        others: the second source, images of the same shape.
        share: of the second source in each training batch, above 0 and below 1. It holds for the batch of all
            processes together; the share of one process differs by at most one example.
        workers: number of reading processes, as in `ImageData`, if the dataset has fewer.
    """

    def __init__(self, data: ImageData, others: Split, share: float, workers: int = 0) -> None:
        self.data, self.others, self.share = data, others, share
        super().__init__(data.batch_size, data.seed, data.augmentation, max(workers, data.workers))
        if others.shape != data.splits.train.shape:
            raise ValueError(f"images {list(others.shape)}: expected the dataset's {list(data.splits.train.shape)}")
        if data.splits.train.ids.amin() < 0:
            raise ValueError("the dataset has ids below 0: those are the second source's")
        self.batches(lambda: 0)  # raises for an invalid share

    @property
    def task(self) -> Task:
        """The dataset's own."""
        return self.data.task

    def load(self) -> Splits:
        """Return the dataset's own splits."""
        return self.data.splits

    @cached_property
    def fingerprint(self) -> str:
        """The dataset's own: the second source does not change what is evaluated."""
        return self.data.fingerprint

    @cached_property
    def training_fingerprint(self) -> str:
        """SHA-256 of the dataset's fingerprint and the second source's content."""
        return hashlib.sha256(f"{self.data.fingerprint}{self.others.digest()}".encode()).hexdigest()

    @cached_property
    def training_split(self) -> Split:
        """Both sources, concatenated."""
        return Joined(self.splits.train, self.others)

    def batches(self, steps_done: Callable[[], int], rank: int = 0, world: int = 1) -> EpochBatches:
        """Return the batches of one of several processes, as in `ImageData`."""
        counts = len(self.splits.train), len(self.others)
        return MixedBatches(*counts, self.share, self.batch_size, self.seed, steps_done, rank, world)


@dataclass(frozen=True)
class Joined(Dataset[Batch]):
    """Two splits as one: the rows of the first, then those of the second, whose ids become −1 − id.

    All other ids are at least 0, so ids stay unique.

    Args:
        first: any split.
        second: any split with images of the same shape.
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
        """Return some of the examples for evaluation; an integer gives a batch of one."""
        rows = torch.arange(len(self))[slice(index, index + 1) if isinstance(index, int) else index]
        return self._gather(rows, lambda split, rows, _: split[rows])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a batch, for a DataLoader."""
        return self[torch.as_tensor(indices)]

    def draw(self, rows: Tensor, noise: Noise) -> Batch:
        """Return some of the examples for training."""
        return self._gather(rows, lambda split, own, positions: split.draw(own, noise.rows(positions)))

    def to(self, device: torch.device) -> Joined:
        """Return both on the device; unchanged if one stays on disk, because it is read into main memory."""
        moved = Joined(self.first.to(device), self.second.to(device))
        return moved if moved.first.ids.device == moved.second.ids.device else self

    def digest(self) -> str:
        """Return the SHA-256 of both digests."""
        return hashlib.sha256(f"{self.first.digest()}{self.second.digest()}".encode()).hexdigest()

    def _gather(self, rows: Tensor, fetch: Callable[[Split, Tensor, Tensor], Batch]) -> Batch:
        """Fetch the rows of each split at once, and return them in the given order."""
        in_first = (rows < len(self.first)).nonzero()[:, 0]
        in_second = (rows >= len(self.first)).nonzero()[:, 0]
        first = fetch(self.first, rows[in_first], in_first)
        second = fetch(self.second, rows[in_second] - len(self.first), in_second)
        images = torch.cat((first.images, second.images))
        labels = torch.cat((first.labels, second.labels))
        ids = torch.cat((first.ids, ~second.ids))
        order = torch.cat((in_first, in_second)).argsort()
        return Batch(images, labels, ids).rows(order.to(labels.device))


class MixedBatches(EpochBatches):
    """Batches of two sources; rows from `examples` on are the second's.

    The positions of the second source are spread evenly over a batch, and are the same in every batch.

    Args:
        examples: of the first source.
        others: of the second.
        share: of the second source in a batch.
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
        # examples of the second source among the first n of a batch, rounded
        counts = (torch.arange(batch_size * world + 1, dtype=torch.float64) * share + 0.5).floor()
        self._second = counts.diff() > 0
        """Which positions in a batch of all processes belong to the second source, booleans."""
        self._own = int((~self._second).sum())
        self.others = others
        if not others:
            raise ValueError("a second source of no examples: expected at least one")
        if not 0 < self._own < len(self._second):
            raise ValueError(
                f"share {share} of batches of {len(self._second)}: expected a whole example of either source"
            )

    def __len__(self) -> int:
        """Return the number of steps of a whole epoch; a last batch that is too small is left out."""
        whole, rest = divmod(self.examples, self._own)
        return whole + (rest > 0 and self._is_kept(self._length_with(rest), whole))

    def steps(self, epoch: int) -> Sequence[Tensor]:
        """Return the rows of every step of an epoch, of all processes together."""
        order = self.order(epoch).split(self._own)[: len(self)]
        masks = [self._second[: self._length_with(len(own))] for own in order]
        counts = [int(mask.sum()) for mask in masks]
        others = self._others(epoch * sum(counts), sum(counts)).split(counts)
        return [_merged(*parts) for parts in zip(masks, order, others, strict=True)]

    def _length_with(self, own: int) -> int:
        """Return the length of a batch with `own` examples of the first source."""
        return len(self._second) if own == self._own else int((~self._second).nonzero()[own - 1]) + 1

    def _others(self, start: int, count: int) -> Tensor:
        """Return rows `start` to `start + count` of the endless sequence of permutations of the second source."""
        if not count:  # an epoch of a few examples
            return torch.zeros(0, dtype=torch.int64)
        passes = range(start // self.others, (start + count - 1) // self.others + 1)
        order = torch.cat([permutation(self.others, _OTHERS, self.seed, number) for number in passes])
        return self.examples + order[start - passes.start * self.others :][:count]


def _merged(second: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Return a batch with rows of the second source where the mask `second` is true, and own rows elsewhere."""
    rows = torch.empty(len(second), dtype=torch.int64)
    rows[~second] = own
    rows[second] = others
    return rows
