"""Tasks: the form of targets and outputs, and a loss and a score per example.

Classification is the default. Another task, such as segmentation or detection, is a subclass of `Task` that a dataset
names (`ImageData.task`); training, the grid and the reports use it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from gauntlet.class_identity import class_identity

if TYPE_CHECKING:  # reports know tasks by their columns, and do without torch
    from torch import Tensor

Dtype = pl.DataType | type[pl.DataType]
Metric = Callable[[pl.DataFrame], float]
"""A function of the records of many examples to a number in [0, 1]."""


class Task(ABC):
    """How outputs are evaluated per example: a frozen dataclass with a declared `identity`.

    Targets are a tensor `[N, …]` with a row per example: classes, maps of classes, boxes padded to a fixed number.
    Outputs are the float tensor `[N, …]` that a network returns. Results per example, such as matched detections or
    intersections by class, are columns of records; metrics of the dataset are computed from these.
    """

    columns: ClassVar[Mapping[str, Dtype]] = {"clean_score": pl.Float32, "score": pl.Float32}
    """Columns of every record in this task. A `DecidingTask` has the column `correct`."""
    image_columns: ClassVar[Mapping[str, Dtype]] = {}
    """Columns that `detail` returns: polars numbers, lists of any length, or structs."""
    spatial: ClassVar[bool] = True
    """Whether targets have positions in the image, so that augmenting the images alone would make them wrong."""

    @property
    def name(self) -> str:
        """Name and version in cards and messages, such as `classification/1`."""
        return class_identity(type(self))

    @abstractmethod
    def form(self, count: int | str, classes: int | str) -> str:
        """Describe the outputs for a number of images and classes, such as `logits [N, K]`."""

    @abstractmethod
    def takes(self, outputs: Tensor) -> bool:
        """Return whether outputs have that form, for any number of classes."""

    @abstractmethod
    def classes(self, outputs: Tensor) -> int:
        """Return the number of classes K of outputs."""

    @abstractmethod
    def class_range(self, targets: Tensor) -> tuple[int, int]:
        """Return the lowest and the highest class in targets, N > 0."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the training loss, `[N]`."""

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the score of each example, `[N]` float in [0, 1]: 1 is perfect, at 0 there is nothing to attack."""

    def chance(self, classes: int) -> float:
        """Return the mean score of random guesses."""
        return 0.0

    def detail(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """Return the `image_columns`: tensors `[N, …]`, or lists of N values."""
        return {}

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Metrics over all examples by name, such as mean IoU or average precision."""
        return {}

    def record(self, targets: Tensor, clean: Tensor, outputs: Tensor, counts: Tensor) -> Mapping[str, Any]:
        """Return the task's columns of records about images.

        Args:
            targets: `[N, …]`.
            clean: outputs of the clean images.
            outputs: outputs of the images that the records are about.
            counts: `[N]` booleans: whether the example is scored by `outputs`; else by `clean`.
        """
        scored = outputs.where(counts.reshape(-1, *(1,) * (outputs.ndim - 1)), clean)
        scores = {"clean_score": self.score(clean, targets), "score": self.score(scored, targets)}
        return {**scores, **self.detail(scored, targets)}

    def captions(self, outputs: Tensor, targets: Tensor) -> list[str]:
        """Return a short caption for each of N images."""
        return [f"{100 * score:.0f} %" for score in self.score(outputs, targets).tolist()]


class DecidingTask(Task):
    """A task in which an example is correct or not, as unions, minimum distances and certificates require."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """Return the targets for which outputs would be correct."""

    @abstractmethod
    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return whether outputs are correct, `[N]` booleans."""

    @abstractmethod
    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the margin of outputs, `[N]`; negative where they are not correct."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return 1 where outputs are correct, else 0, `[N]`."""
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
        """Return whether they are `[N, K]`."""
        return outputs.ndim == 2

    def classes(self, outputs: Tensor) -> int:
        """K."""
        return outputs.shape[1]

    def class_range(self, targets: Tensor) -> tuple[int, int]:
        """Return the lowest and the highest label."""
        return int(targets.min()), int(targets.max())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy, `[N]`, in nats."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets, reduction="none")

    def chance(self, classes: int) -> float:
        """1/K."""
        return 1 / classes

    def detail(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Any]:
        """Return the margin of the label."""
        return {"margin": self.margin(outputs, targets)}

    def record(self, targets: Tensor, clean: Tensor, outputs: Tensor, counts: Tensor) -> Mapping[str, Any]:
        """Return predictions and margins of the images; `correct` is of the clean one if `counts` is false."""
        correct = self.correct(outputs, targets).where(counts, self.correct(clean, targets))
        predictions = {"clean_prediction": self.predict(clean), "prediction": self.predict(outputs)}
        return {"label": targets, **predictions, "correct": correct, **self.detail(outputs, targets)}

    def captions(self, outputs: Tensor, targets: Tensor) -> list[str]:
        """Return `3` where the prediction is the label, `3 -> 5` where it is not."""
        pairs = zip(targets.tolist(), self.predict(outputs).tolist(), strict=True)
        return [f"{label}" if label == prediction else f"{label} -> {prediction}" for label, prediction in pairs]

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the class of the highest logit, `[N]`."""
        return outputs.argmax(1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return whether the prediction is the label, `[N]`."""
        return self.predict(outputs) == targets

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the label's logit minus the largest other logit, `[N]`."""
        from gauntlet.losses import margin

        return margin(outputs, targets)


CLASSIFICATION = Classification()
"""The task of datasets that name no other."""
