"""Measure one chunk under one entry of a suite, and verify the result independently of the entry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor, nn

from gauntlet.attacks import Adversarial, Attack
from gauntlet.certificates import Certificate, Certified
from gauntlet.data import Batch, Split
from gauntlet.descriptions import digest
from gauntlet.distances import LPIPS
from gauntlet.distances.calibrated import CalibratedLPIPS
from gauntlet.errors import AttackFailed, NotFiniteError, ThreatModelViolation, UserError, first_line
from gauntlet.evaluation.batch_sizer import BatchSizer
from gauntlet.evaluation.entries import Entry
from gauntlet.evaluation.evidence import SCHEMAS, schema
from gauntlet.identity import describe
from gauntlet.kinds import Kind
from gauntlet.models import outputs_for
from gauntlet.noise import Noise
from gauntlet.scopes import evaluating, exact
from gauntlet.task import CLASSIFICATION, Dtype, Task
from gauntlet.threats.l2 import norm
from gauntlet.transforms import Transform


@dataclass(frozen=True)
class ModelUnderTest:
    """A classifier and the examples it is measured on.

    Args:
        classifier: on the device to use.
        checkpoint: SHA-256 of its weights file.
        examples: examples of the test split.
        fingerprint: fingerprint of the dataset.
        reference: the dataset's own perceptual distance, for the column `perceptual`; None leaves it empty.
        calibrated: the distance of the column `lpips`, which stays empty if its weights are missing.
        batch_sizer: how many examples fit into memory, for each entry.
        measurement: number of the classifier among those with the same identity; from `recognised`.
        task: of the dataset.
    """

    classifier: nn.Module
    checkpoint: str
    examples: Split
    fingerprint: str
    reference: LPIPS | None = None
    calibrated: CalibratedLPIPS = field(default_factory=CalibratedLPIPS)
    batch_sizer: BatchSizer = field(default_factory=BatchSizer)
    measurement: int = 0
    task: Task = CLASSIFICATION

    @property
    def classifier_digest(self) -> str:
        """Digest of the classifier, independent of its weights file."""
        return digest([self.description, self.measurement])[:12]

    @cached_property
    def description(self) -> Any:
        """The classifier's part of an identity. It is cached because a forward pass may change a public attribute."""
        return describe(self.classifier)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """Return the outputs for `[N, C, H, W]` images on the classifier's device, in the form of the task."""
        return outputs_for(self.task, self.classifier, images)


class Chunk(NamedTuple):
    """The result of measuring some examples."""

    records: pl.DataFrame
    """Columns of the entry's kind and of the task."""
    images: Tensor | None
    """`[N, C, H, W]` on the CPU, the images of these records; None for a certificate."""


def device_of(classifier: nn.Module) -> torch.device:
    """Return the device of its tensors; the CPU if it has none."""
    return next((tensor.device for tensor in classifier.state_dict().values()), torch.device("cpu"))


def measure_chunk(model: ModelUnderTest, entry: Entry, batch: Batch, noise: Noise) -> Chunk:
    """Run an entry on a chunk and measure the result, in as many parts as the device's memory requires.

    Raises:
        AttackFailed: the entry raised an error, returned an invalid result, or a single example does not fit.
        NotFiniteError: the classifier's logits are NaN.
    """
    device = device_of(model.classifier)
    measure = _MEASURES[entry.kind]

    def part(rows: slice) -> Chunk:
        start = time.perf_counter()
        some = batch.rows(rows).to(device)
        part_noise = Noise(noise.seeds[rows].to(device))
        with exact(), evaluating(model.classifier):
            columns, images = measure(model, entry, some, part_noise)
        columns = {"example_id": some.ids, **columns}
        seconds = (time.perf_counter() - start) / max(1, len(some.labels))
        return Chunk(_records(schema(entry.kind, model.task), columns, seconds), images)

    parts = model.batch_sizer.run(digest(describe(entry)), len(batch.labels), part)
    images = [one.images for one in parts if one.images is not None]
    return Chunk(pl.concat([one.records for one in parts]), torch.cat(images) if images else None)


def _records(schema: Mapping[str, Dtype], columns: Mapping[str, Any], seconds: float) -> pl.DataFrame:
    """Return a frame of the schema's columns, followed by those that a certificate counted."""
    values = {name: column.tolist() if isinstance(column, Tensor) else column for name, column in columns.items()}
    count = len(values["example_id"])
    known: dict[str, Any] = {}
    for name in schema:
        if name != "seconds":
            known[name] = values.get(name, [None] * count)
    frame = pl.DataFrame({**known, "seconds": [seconds] * count}, schema=schema)
    counted = [name for name in columns if name not in known]
    return frame.with_columns([pl.Series(name, values[name], _dtype(columns[name])) for name in counted])


def _dtype(column: Tensor) -> type[pl.DataType]:
    """The type of a certificate's own column, also if it is empty."""
    if column.dtype is torch.bool:
        return pl.Boolean
    return pl.Float64 if column.is_floating_point() else pl.Int64


_Measured = tuple[dict[str, Any], Tensor | None]


def _attack(model: ModelUnderTest, attack: Attack, batch: Batch, noise: Noise) -> _Measured:
    adversarial = attacked(attack, model.classifier, batch, noise)
    with failures_of_an_entry():
        verified = attack.verify(model.classifier, batch, adversarial)
    clean = _outputs(model, batch.images)
    outputs = _outputs(model, adversarial.images)
    before = model.task.score(clean, batch.labels)
    after = model.task.score(outputs, batch.labels)
    # An image outside the threat model is no success: the clean image, which lies inside, counts instead.
    success = verified.inside & (after < before)
    columns = _distances(model, batch.images, adversarial.images)
    columns |= model.task.record(batch.labels, clean, outputs, success)
    columns["inside"] = verified.inside
    if verified.distance is None:
        return columns | {"size": verified.size}, adversarial.images.cpu()
    unbroken = torch.where(before > 0, torch.inf, 0.0).double()
    columns["distance"] = torch.where(success, verified.distance.double(), unbroken)
    return columns, adversarial.images.cpu()


def _transform(model: ModelUnderTest, transform: Transform, batch: Batch, noise: Noise) -> _Measured:
    with failures_of_an_entry():
        images = transform(batch, noise)
        _check_images(images, batch.images)
        inside = transform.verify(batch, noise, images)
    clean = _outputs(model, batch.images)
    outputs = _outputs(model, images)
    task_columns = model.task.record(batch.labels, clean, outputs, torch.ones_like(inside))
    return {**_distances(model, batch.images, images), **task_columns, "inside": inside}, images.cpu()


def _certificate(model: ModelUnderTest, certificate: Certificate, batch: Batch, noise: Noise) -> _Measured:
    with failures_of_an_entry():
        certified = certificate(model.classifier, batch.images, noise)
        _check_certified(certified, len(batch.labels))
    clean = _outputs(model, batch.images).argmax(1)
    radius = torch.where(certified.abstained, 0.0, certified.radius.double())
    correct = (certified.predictions == batch.labels) & ~certified.abstained
    predictions = {"clean_prediction": clean, "prediction": certified.predictions}
    columns = {"label": batch.labels, **predictions, "correct": correct, "radius": radius}
    return columns | {"abstained": certified.abstained, **certified.detail}, None


def _check_certified(certified: Certified, count: int) -> None:
    predictions, radius, abstained, detail = certified
    if taken := sorted(detail.keys() & {*SCHEMAS[Kind.CERTIFICATE]}):
        raise ValueError(f"its detail has columns {taken}, which every certificate has: rename them")
    for name, tensor in {"predictions": predictions, "radius": radius, "abstained": abstained, **detail}.items():
        if tensor.shape != (count,):
            raise ValueError(f"its {name} is of shape {list(tensor.shape)}: expected [{count}]")
    if abstained.dtype != torch.bool or predictions.is_floating_point():
        raise ValueError(f"predictions {predictions.dtype}, abstained {abstained.dtype}: expected integers, booleans")
    if not (radius[~abstained] >= 0).all():  # NaN too
        raise ValueError("a radius is negative or NaN: abstain instead")


def _check_images(images: Tensor, clean: Tensor) -> None:
    if images.shape != clean.shape:
        raise ValueError(f"it returned images {list(images.shape)} for {list(clean.shape)}")


_MEASURES: Mapping[Kind, Callable[[ModelUnderTest, Any, Batch, Noise], _Measured]] = {
    Kind.ATTACK: _attack,
    Kind.MINIMUM_DISTANCE: _attack,
    Kind.CERTIFICATE: _certificate,
    Kind.TRANSFORM: _transform,
}


def _outputs(model: ModelUnderTest, images: Tensor) -> Tensor:
    outputs = model.outputs(images)
    if (outputs.isnan().flatten(1).any(1) & images.isfinite().flatten(1).all(1)).any():
        raise NotFiniteError("the classifier answered NaN: such examples are neither right nor robust")
    return outputs


@contextmanager
def failures_of_an_entry() -> Iterator[None]:
    """Convert errors raised by an entry's own code into AttackFailed, so that the other entries continue."""
    try:
        yield
    except (UserError, AttackFailed, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise AttackFailed(f"{type(error).__name__}: {first_line(error)}") from error


def attacked(attack: Attack, classifier: nn.Module, batch: Batch, noise: Noise) -> Adversarial:
    """Run an attack. An example for which it leaves its threat model gets its clean image and size inf.

    The violation is raised for a whole batch but caused by single examples: halves of the batch are tried again until
    the example is alone, so that the others keep their results.

    Raises:
        AttackFailed: the attack raised any other error, or returned something that is no batch of images.
    """
    images = batch.images
    try:
        adversarial = attack.run(classifier, batch, noise)
        _check_images(adversarial.images, images)
        if not len(adversarial.params) == len(adversarial.size) == len(images):
            raise ValueError(
                f"it returned {len(adversarial.params)} params and {len(adversarial.size)} sizes for"
                f" {len(images)} images"
            )
    except ThreatModelViolation as violation:
        if len(images) > 1:
            middle = len(images) // 2
            halves = [
                attacked(attack, classifier, batch.rows(part), Noise(noise.seeds[part]))
                for part in (slice(middle), slice(middle, None))
            ]
            return Adversarial(*(torch.cat(parts) for parts in zip(*halves, strict=True)))
        print(f"violation: {violation}; this example counts as not attacked", flush=True)
        region = attack.threat_model.around(batch, classifier)
        return Adversarial(images, region.zero(), images.new_full((len(images),), torch.inf))
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise AttackFailed(f"{type(error).__name__}: {first_line(error)}") from error
    return adversarial


def images_of(entry: Entry, classifier: nn.Module, batch: Batch, noise: Noise) -> Tensor | None:
    """Return the images `[N, C, H, W]` that an entry makes of a batch; None for a certificate.

    Raises:
        AttackFailed: the attack raised an error.
    """
    if entry.kind is Kind.CERTIFICATE:
        return None
    with exact():
        if entry.kind is Kind.TRANSFORM:
            transform: Any = entry
            transformed: Tensor = transform(batch, noise)
            return transformed
        attack: Any = entry
        return attacked(attack, classifier, batch, noise).images


@torch.no_grad()
def _distances(model: ModelUnderTest, images: Tensor, others: Tensor) -> dict[str, Any]:
    """Return L∞, L2, the reference distance and LPIPS, computed from the two images alone."""
    absent = [None] * len(images)
    change = others - images
    missing = model.calibrated.missing((images.shape[2], images.shape[3]))
    return {
        "linf": change.abs().flatten(1).amax(1),
        "l2": norm(change),
        "perceptual": absent if model.reference is None else model.reference(images, others),
        "lpips": absent if missing else model.calibrated(images, others),
    }
