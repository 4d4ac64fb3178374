"""Base class of all datasets: three splits with stable ids, a fingerprint, loaders that resume within an epoch."""

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
    """The splits of a dataset. `validation` is held out from the training images; no choice is made on `test`."""

    train: Split
    validation: Split
    test: Split


class ImageData(LightningDataModule):
    """A dataset; a subclass loads its splits, and states its task if that is not classification.

    Datasets in memory are kept on the training device as bytes, and are indexed and augmented there; those on disk are
    read and augmented by workers.

    Args:
        batch_size: training examples per step and process.
        seed: of the order of training examples and of their augmentation.
        augmentation: of training batches, applied in order; other batches are not augmented.
        workers: number of reading processes, at most the cores of this process; 0 reads in this process.
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
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = tuple(augmentation)
        self.workers = min(workers, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else workers)

    @property
    def task(self) -> Task:
        """What the targets are, and how answers are judged; a dataset of another task overrides it."""
        return CLASSIFICATION

    @abstractmethod
    def load(self) -> Splits:
        """Read the images, or list their files. Called once."""

    @cached_property
    def splits(self) -> Splits:
        """The three splits."""
        return self.load()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all splits; it does not depend on where the dataset lies.

        For datasets in memory it covers every pixel; for those on disk the relative paths, the labels, every byte of
        the files, read once per run, and the view.
        """
        return hashlib.sha256("".join(split.digest() for split in self.splits).encode()).hexdigest()

    @property
    def training_split(self) -> Split:
        """The examples of training batches."""
        return self.splits.train

    @property
    def training_fingerprint(self) -> str:
        """SHA-256 of all training data; a run is resumed only if it is the same."""
        return self.fingerprint

    def batches(self, steps_done: Callable[[], int], rank: int = 0, world: int = 1) -> EpochBatches:
        """Return the batches of the training split for one of several processes."""
        return EpochBatches(len(self.splits.train), self.batch_size, self.seed, steps_done, rank, world)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of augmented batches in the order of (seed, epoch)."""
        trainer = self.trainer
        assert trainer is not None
        batches = self.batches(lambda: trainer.global_step, trainer.global_rank, trainer.world_size)
        examples = TrainingExamples(self._on_device(self.training_split), self.augmentation, self.seed)
        return self._loader(examples, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the validation split, in its own order, with the batch size of training."""
        validation: Any = self._on_device(self.splits.validation)
        return self._loader(validation, batch_size=self.batch_size)

    def _on_device(self, split: Split) -> Split:
        """Move a split to the training device, unless workers read it, which have no GPU."""
        return split if self.workers else split.to(self._device())

    def _device(self) -> torch.device:
        assert self.trainer is not None
        return self.trainer.strategy.root_device

    def _loader(self, examples: Dataset[Batch], **batches: Any) -> DataLoader[Batch]:
        return DataLoader(
            examples,
            collate_fn=_identity,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.workers > 0 and self._device().type == "cuda",
            **batches,
        )


def in_memory(train: Examples, test: Examples, validation: float) -> Splits:
    """Return the splits of a set with an official test set; `validation` is the share of training images held out."""
    held = held_out(train.ids, validation)
    return Splits(_rows(train, ~held), _rows(train, held), test)


def _rows(examples: Examples, keep: torch.Tensor) -> Examples:
    return Examples(examples.images[keep], examples.labels[keep], examples.ids[keep])


def _identity(batch: Any) -> Any:
    return batch
