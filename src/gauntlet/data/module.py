"""What every dataset gives: three splits with stable ids, a fingerprint, loaders that can go on where they stopped."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from gauntlet.data.augmentation import Augmentation, TrainingExamples
from gauntlet.data.examples import Batch, EpochBatches, Examples, Split, held_out
from gauntlet.task import CLASSIFICATION, Task


class Splits(NamedTuple):
    """Nothing is ever chosen on `test`; `validation` is held out from the training images."""

    train: Split
    validation: Split
    test: Split


class ImageData(LightningDataModule):
    """A dataset. A subclass says what its splits are, and its task where that is not classification.

    One that is held in memory lives on the training device as bytes, and is indexed and augmented there; one that
    stays on disk is read and augmented by workers.

    Args:
        batch_size: training examples per step and process.
        seed: of the order of training examples and of their augmentation.
        augmentation: of training batches, one after the other; nothing else is ever augmented.
        workers: processes that read, never more than this process has cores; 0 reads in this one.
    """

    def __init__(
        self, batch_size: int, seed: int = 0, augmentation: Sequence[Augmentation] = (), workers: int = 0
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: expected at least 1")
        if workers < 0:
            raise ValueError(f"workers {workers}: expected at least 0")
        if augmentation and self.task.spatial:
            raise ValueError(
                f"augmentation changes images alone, and the targets of {self.task.name} belong to places in them:"
                f" write augmentation: null"
            )
        self.batch_size, self.seed, self.augmentation = batch_size, seed, tuple(augmentation)
        self.workers = min(workers, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else workers)

    @property
    def task(self) -> Task:
        """What the targets are, and how answers are judged; a dataset of another task overrides it."""
        return CLASSIFICATION

    @abstractmethod
    def load(self) -> Splits:
        """Read the images, or find out where they are. Called once."""

    @cached_property
    def splits(self) -> Splits:
        """The three splits."""
        return self.load()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every split: what the examples are, not where they lie.

        Of sets in memory every pixel; of streamed ones the relative paths, labels, every byte of the files, read once a
        run, and the view.
        """
        return hashlib.sha256("".join(split.digest() for split in self.splits).encode()).hexdigest()

    @property
    def training_split(self) -> Split:
        """What training batches are drawn from."""
        return self.splits.train

    @property
    def training_fingerprint(self) -> str:
        """SHA-256 of all that training sees: a run is resumed on the same, or not at all."""
        return self.fingerprint

    def batches(self, steps_done: Callable[[], int], rank: int = 0, world: int = 1) -> EpochBatches:
        """The order in which one of several processes sees the training split."""
        return EpochBatches(len(self.splits.train), self.batch_size, self.seed, steps_done, rank, world)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Augmented batches in the order of (seed, epoch)."""
        trainer = self.trainer
        assert trainer is not None
        batches = self.batches(lambda: trainer.global_step, trainer.global_rank, trainer.world_size)
        seen = TrainingExamples(self._placed(self.training_split), self.augmentation, self.seed)
        return self._loader(seen, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split, in its own order, as many at a time as training has."""
        validation: Any = self._placed(self.splits.validation)
        return self._loader(validation, batch_size=self.batch_size)

    def _placed(self, split: Split) -> Split:
        """On the training device, unless workers read it: they have none."""
        return split if self.workers else split.to(self._device())

    def _device(self) -> torch.device:
        assert self.trainer is not None
        return self.trainer.strategy.root_device

    def _loader(self, examples: Dataset[Batch], **batches: Any) -> DataLoader[Batch]:
        return DataLoader(
            examples,
            collate_fn=_as_it_is,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.workers > 0 and self._device().type == "cuda",
            **batches,
        )


def in_memory(train: Examples, test: Examples, validation: float) -> Splits:
    """The splits of a set with an official test set: `validation` is the share of the training images held out."""
    held = held_out(train.ids, validation)
    kept, validating = (Examples(train.images[rows], train.labels[rows], train.ids[rows]) for rows in (~held, held))
    return Splits(kept, validating, test)


def _as_it_is(batch: Any) -> Any:
    return batch
