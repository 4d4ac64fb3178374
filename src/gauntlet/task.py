"""What a dataset asks of a network: the form of its targets and of the answers, a loss and a score per example.

Classification is one task. Another is a subclass of `Task`, which a dataset names (`ImageData.task`) and training, the
grid and the reports ask: per-pixel classes, boxes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from gauntlet.class_identity import class_identity
from gauntlet.losses import margin

Dtype = pl.DataType | type[pl.DataType]
Metric = Callable[[pl.DataFrame], float]
"""From records of many examples to one number in [0, 1]."""


class Task(ABC):
    """How answers are judged, example by example: a frozen dataclass with a declared `identity`.

    Targets are a tensor `[N, …]`, whose rows are examples: classes, maps of classes, boxes padded to a fixed number.
    Outputs are the float tensor `[N, …]` that a network answers. What is made of them per example (detections that were
    matched, intersections by class) are columns of records, and what is measured of a dataset is made of those.
    """

    columns: ClassVar[Mapping[str, Dtype]] = {"clean_score": pl.Float32, "score": pl.Float32}
    """The task's columns of every record. A `DecidingTask` has `correct` among them."""
    image_columns: ClassVar[Mapping[str, Dtype]] = {}
    """Likewise of `detail`: numbers, lists of any length, or structs, as polars has them."""
    spatial: ClassVar[bool] = True
    """Whether targets belong to places in an image: an augmentation of the images alone would leave them behind."""

    @property
    def name(self) -> str:
        """As in cards and messages: `classification/1`."""
        return class_identity(type(self))

    @abstractmethod
    def form(self, count: int | str, classes: int | str) -> str:
        """The outputs of so many images and classes in words: `logits [N, K]`."""

    @abstractmethod
    def takes(self, outputs: Tensor) -> bool:
        """Whether outputs, of any number of classes, are of that form."""

    @abstractmethod
    def classes(self, outputs: Tensor) -> int:
        """The number of classes that outputs tell apart, K."""

    @abstractmethod
    def class_range(self, targets: Tensor) -> tuple[int, int]:
        """The lowest and the highest class in targets, N > 0."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What training minimises, `[N]`."""

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How right the outputs are, `[N]` float in [0, 1]: 1 is all right, 0 leaves nothing to attack."""

    def chance(self, classes: int) -> float:
        """The mean score of guesses, below which weights are not this dataset's."""
        return 0.0

    def detail(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """The `image_columns`: tensors `[N, …]`, or lists of N values."""
        return {}

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What is measured of whole records rather than of an example, by name: mean IoU, average precision."""
        return {}

    def record(self, targets: Tensor, clean: Tensor, outputs: Tensor, counts: Tensor) -> Mapping[str, Any]:
        """The task's columns of records about images.

        Args:
            targets: `[N, …]`.
            clean: outputs of the clean images.
            outputs: of the images that the records are about.
            counts: `[N]` booleans: where these judge the example, rather than the clean ones.
        """
        judged = torch.where(counts.reshape(-1, *(1,) * (outputs.ndim - 1)), outputs, clean)
        scores = {"clean_score": self.score(clean, targets), "score": self.score(judged, targets)}
        return {**scores, **self.detail(judged, targets)}

    def captions(self, outputs: Tensor, targets: Tensor) -> list[str]:
        """A few characters about each of N images, for a picture of them."""
        return [f"{100 * score:.0f} %" for score in self.score(outputs, targets).tolist()]


class DecidingTask(Task):
    """A task with a yes or no per example: unions, minimum distances and certificates take no other."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """The targets of which outputs would be right."""

    @abstractmethod
    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Where outputs are right, `[N]` booleans."""

    @abstractmethod
    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """By how much outputs are right, `[N]`; negative where they are wrong."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 where outputs are right, else 0, `[N]`."""
        return self.correct(outputs, targets).float()


@dataclass(frozen=True)
class Classification(DecidingTask):
    """One class per image: targets are labels `[N]` int64, outputs logits `[N, K]`."""

    identity: ClassVar[str] = "classification/1"
    columns: ClassVar[Mapping[str, Dtype]] = {
        "label": pl.Int64,
        "clean_prediction": pl.Int64,
        "prediction": pl.Int64,
        "correct": pl.Boolean,
    }
    image_columns: ClassVar[Mapping[str, Dtype]] = {"margin": pl.Float32}
    spatial: ClassVar[bool] = False

    def form(self, count: int | str, classes: int | str) -> str:
        """`logits [N, K]`."""
        return f"logits [{count}, {classes}]"

    def takes(self, outputs: Tensor) -> bool:
        """Whether they are `[N, K]`."""
        return outputs.ndim == 2

    def classes(self, outputs: Tensor) -> int:
        """K."""
        return outputs.shape[1]

    def class_range(self, targets: Tensor) -> tuple[int, int]:
        """Of the labels."""
        return int(targets.min()), int(targets.max())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, `[N]`, in nats."""
        return F.cross_entropy(outputs, targets, reduction="none")

    def chance(self, classes: int) -> float:
        """1/K."""
        return 1 / classes

    def detail(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """The label's logit minus the best other one."""
        return {"margin": self.margin(outputs, targets)}

    def record(self, targets: Tensor, clean: Tensor, outputs: Tensor, counts: Tensor) -> Mapping[str, Any]:
        """Predictions and margins are always of the images that the record is about; `correct` is of what counts."""
        correct = torch.where(counts, self.correct(outputs, targets), self.correct(clean, targets))
        predictions = {"clean_prediction": self.predict(clean), "prediction": self.predict(outputs)}
        return {"label": targets, **predictions, "correct": correct, **self.detail(outputs, targets)}

    def captions(self, outputs: Tensor, targets: Tensor) -> list[str]:
        """`3` where the prediction is the label, `3 -> 5` where it is not."""
        pairs = zip(targets.tolist(), self.predict(outputs).tolist(), strict=True)
        return [f"{label}" if label == prediction else f"{label} -> {prediction}" for label, prediction in pairs]

    def predict(self, outputs: Tensor) -> Tensor:
        """The class of the highest logit, `[N]`."""
        return outputs.argmax(1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Where the prediction is the label, `[N]`."""
        return self.predict(outputs) == targets

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The label's logit minus the best other one, `[N]`."""
        return margin(outputs, targets)


CLASSIFICATION = Classification()
"""Of a dataset that names no other task."""
