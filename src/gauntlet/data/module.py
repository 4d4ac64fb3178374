"""What every dataset gives: three splits with stable ids, a fingerprint, loaders that can go on where they stopped."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from functools import cached_property
from typing import Any, NamedTuple

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from gauntlet.data.examples import Batch, EpochBatches, Examples


class Splits(NamedTuple):
    """Nothing is ever chosen on `test`; `validation` is held out from the training images."""

    train: Examples
    validation: Examples
    test: Examples


class ImageData(LightningDataModule):
    """A dataset that fits in memory. A subclass says what its splits are.

    Args:
        batch_size: training examples per step and process.
        seed: of the order of training examples.
    """

    def __init__(self, batch_size: int, seed: int = 0) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: expected at least 1")
        self.batch_size, self.seed = batch_size, seed

    @abstractmethod
    def load(self) -> Splits:
        """Read the images. Called once."""

    @cached_property
    def splits(self) -> Splits:
        """The three splits."""
        return self.load()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every pixel, label and id of every split."""
        return hashlib.sha256("".join(split.digest() for split in self.splits).encode()).hexdigest()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches in the order of (seed, epoch)."""
        trainer = self.trainer
        assert trainer is not None
        batches = EpochBatches(
            len(self.splits.train),
            self.batch_size,
            self.seed,
            steps_done=lambda: trainer.global_step,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
        return DataLoader(self.splits.train, batch_sampler=batches, collate_fn=_as_it_is)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split, in its own order."""
        return DataLoader(self.splits.validation, batch_size=256, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch
